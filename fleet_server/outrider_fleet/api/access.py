"""Who may ask: bearer tokens by kind, reading open on the loopback where fleet.toml says so.

1. A request that changes something is named by its digest: SHA-256 over `METHOD path?query`, a newline and the body.
   A blob's upload is named without its body: the path holds the digest of that.
2. Who asks stands in `request.state.caller` from then on: a refusal is in the audit log under this name.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from outrider_fleet.api.limits import BLOB_PREFIX
from outrider_fleet.api.services import Services
from outrider_fleet.app import tokens
from outrider_fleet.app.tokens import Caller
from outrider_fleet.errors import ForbiddenError, UnauthenticatedError


def services(request: Request) -> Services:
    """What the application was made with."""
    found: Services = request.app.state.services
    return found


def _caller(request: Request) -> Caller | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        return None
    return tokens.authenticate(services(request).fleet, token.strip())


def needs(*kinds: str) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: a token of one of these kinds."""

    async def check(request: Request) -> Caller:
        caller = await run_in_threadpool(_caller, request)
        if caller is None:
            raise UnauthenticatedError("this request needs a token")
        caller = request.state.caller = replace(caller, request_sha256=await _digest(request))
        if caller.kind not in kinds:
            raise ForbiddenError(f"a token of kind {caller.kind} may not do this ({', '.join(kinds)} may)")
        return caller

    return check


async def _digest(request: Request) -> str:
    query = f"?{request.url.query}" if request.url.query else ""
    body = b"" if request.url.path.startswith(BLOB_PREFIX) else await request.body()
    return sha256(f"{request.method} {request.url.path}{query}\n".encode() + body).hexdigest()


def may_read(request: Request) -> Caller:
    """A dependency: any token, or none from the loopback where that is allowed."""
    caller = _caller(request)
    if caller is not None:
        return caller
    if services(request).fleet.config.api.anonymous_read and _is_loopback(request):
        return Caller("viewer", "loopback")
    raise UnauthenticatedError("reading needs a token here")


def _is_loopback(request: Request) -> bool:
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


Reader = Annotated[Caller, Depends(may_read)]
Operator = Annotated[Caller, Depends(needs("operator"))]
Pipeline = Annotated[Caller, Depends(needs("pipeline", "runner"))]
Runner = Annotated[Caller, Depends(needs("runner"))]
Given = Annotated[Services, Depends(services)]
Answer = dict[str, Any]
