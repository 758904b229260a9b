"""Trust files, tokens, devices and groups."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from outrider_fleet.api.access import Answer, Given, Operator, Reader
from outrider_fleet.api.answers import tagged
from outrider_fleet.api.bodies import DecommissionBody, GroupBody, TokenBody
from outrider_fleet.app import admission, announce, decommission, groups, renew, tokens, views
from outrider_fleet.errors import UnknownError
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.store import devices

router = APIRouter()
Limit = Annotated[int, Query(ge=1, le=500)]
_TRUST_FILE = re.compile(r"[a-z0-9][a-z0-9.-]{0,80}\.json")


@router.get("/health")
def health(given: Given) -> Answer:
    """How the server's parts are."""
    return {"status": "ok", "fleet": given.fleet.config.name, **given.health()}


@router.get("/trust/{name}")
def trust_file(name: str, given: Given) -> Response:
    """Public metadata, as signed."""
    repository = TrustRepository(given.fleet.home.trust)
    data = repository.read_optional(name) if _TRUST_FILE.fullmatch(name) else None
    if data is None:
        raise UnknownError(f"trust file {name[:100]!r}")
    return Response(data, media_type="application/json")


@router.post("/trust/refresh")
def refresh_trust(given: Given, caller: Operator) -> Answer:
    """Sign on top of a ceremony and publish."""
    announce.refresh_trust(given.fleet, caller.actor)
    return {"refreshed": True}


@router.post("/tokens", status_code=201)
def create_token(body: TokenBody, given: Given, caller: Operator) -> Answer:
    """Make a token: its text is shown this once."""
    text = tokens.create(given.fleet, body.kind, body.name, body.ttl_s, device=body.device, actor=caller.actor)
    return {"token": text}


@router.get("/devices")
def list_devices(
    request: Request, given: Given, _caller: Reader, after: str | None = None, limit: Limit = 500
) -> Response:
    """Devices with their drift."""
    with given.fleet.look() as connection:
        return tagged(request, views.device_list(connection, after, limit))


@router.get("/devices/{device}")
def show_device(request: Request, device: str, given: Given, _caller: Reader) -> Response:
    """One device with everything."""
    with given.fleet.look() as connection:
        return tagged(request, views.device(connection, device))


@router.post("/devices/{device}/revoke")
def revoke_device(device: str, given: Given, caller: Operator) -> Answer:
    """Refuse a device from now on and end its live session."""
    admission.revoke(given.fleet, device, caller.actor)
    return {"device": device, "state": "revoked", "sessions_ended": given.end_sessions(device)}


@router.post("/devices/{device}/decommission")
def decommission_device(device: str, body: DecommissionBody, given: Given, caller: Operator) -> Answer:
    """Let a device erase itself, then erase what is known of it; without `wait` only the second, at once."""
    state = decommission.begin(given.fleet, device, caller.actor, wait=body.wait)
    if state == "decommissioning":
        return {"device": device, "state": state}
    told = decommission.finish(given.fleet, device, caller.actor, given.end_sessions)
    return {"device": device, "state": "decommissioned", **told}


@router.post("/devices/{device}/approve")
def approve_device(device: str, given: Given, caller: Operator) -> Answer:
    """Let a device whose certificate has ended have the next one."""
    return renew.approve(given.fleet, device, caller.actor)


@router.get("/groups")
def list_groups(request: Request, given: Given, _caller: Reader) -> Response:
    """Groups with their members of this moment."""
    with given.fleet.look() as connection:
        return tagged(request, devices.list_groups(connection))


@router.post("/groups", status_code=201)
def create_group(body: GroupBody, given: Given, caller: Operator) -> Answer:
    """Make a group."""
    members = (body.devices or []) if body.kind == "static" else body.devices
    return groups.create(given.fleet, body.name, members, body.query, caller.actor)
