"""Tokens that were made: which there are, and which count no more."""

from fastapi import APIRouter, Request, Response

from outrider_fleet.api.access import Answer, Given, Operator
from outrider_fleet.api.answers import tagged
from outrider_fleet.app import tokens

router = APIRouter()


@router.get("/tokens")
def list_tokens(request: Request, given: Given, _caller: Operator) -> Response:
    """Every token by its id; none can be used by what is told of it."""
    return tagged(request, tokens.listed(given.fleet))


@router.post("/tokens/{identifier}/revoke")
def revoke_token(identifier: str, given: Given, caller: Operator) -> Answer:
    """Refuse a token from now on."""
    return tokens.revoke(given.fleet, identifier, caller.actor)
