"""Rollouts."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from outrider_fleet.api.access import Answer, Given, Operator, Reader
from outrider_fleet.api.answers import tagged
from outrider_fleet.api.bodies import ReasonBody, RolloutBody
from outrider_fleet.app import create_rollout, idempotency, rollouts, views
from outrider_fleet.app.create_rollout import Wanted
from outrider_fleet.domain.rollout_state import Action
from outrider_fleet.errors import UnknownError

router = APIRouter()
Limit = Annotated[int, Query(ge=1, le=500)]


@router.post("/rollouts", status_code=201)
def create(
    body: RolloutBody,
    given: Given,
    caller: Operator,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> Answer:
    """Start a rollout; with an `Idempotency-Key` once, however often it is sent."""
    wanted = Wanted(body.model, body.version, body.group, body.spec())

    def perform(change: Any) -> dict[str, Any]:
        return {"id": create_rollout.create_in(given.fleet, change, wanted, caller.actor)}

    request = body.model_dump_json().encode()
    made = idempotency.once(given.fleet, caller.actor, idempotency_key, request, perform)
    return _show(given, str(made["id"]))


@router.get("/rollouts")
def list_rollouts(
    request: Request, given: Given, _caller: Reader, after: str | None = None, limit: Limit = 100
) -> Response:
    """Rollouts, newest first."""
    with given.fleet.look() as connection:
        return tagged(request, views.rollout_list(connection, after, limit))


@router.get("/rollouts/{rollout}")
def show(request: Request, rollout: str, given: Given, _caller: Reader) -> Response:
    """One rollout with executions and events."""
    return tagged(request, _show(given, rollout))


@router.get("/rollouts/{rollout}/why")
def why(rollout: str, given: Given, _caller: Reader) -> Answer:
    """Why it stands where it stands."""
    shown = _show(given, rollout)
    return {name: shown[name] for name in ("id", "state", "verdict", "why", "phase", "exposed", "total")}


@router.post("/rollouts/{rollout}/{action}")
def act(rollout: str, action: str, body: ReasonBody, given: Given, caller: Operator) -> Answer:
    """Approve, advance, pause, resume, abort or roll back."""
    known = {item.value: item for item in Action if item is not Action.SUPERSEDE}
    if action not in known:
        raise UnknownError(f"action {action[:40]!r} (known: {', '.join(known)})")
    rollouts.act(given.fleet, rollout, known[action], body.reason, caller.actor)
    return _show(given, rollout)


def _show(given: Given, rollout: str) -> dict[str, Any]:
    with given.fleet.look() as connection:
        return views.rollout(connection, rollout)
