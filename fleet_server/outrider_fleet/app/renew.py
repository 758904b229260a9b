"""The next certificate of a device: for the key that it enrolled with, and for no other.

1. A request proves the key by its own signature; one for another key is refused and logged.
2. While more than a third of the present certificate's life is left, the answer is that certificate again.
3. Until it ends, the next one is issued unattended.
4. For 90 days after its end the key still proves who asks, and a person decides: `outrider-fleet device approve`.
5. Later, and for a device that was revoked, only a new enrolment helps.
6. Over MQTT the session proves the device as well; over HTTP, which is all that is left after the end, the key alone.
"""

import logging
from hashlib import sha256
from typing import Final

from outrider_fleet.app.actor import Actor
from outrider_fleet.app.enrol import DAY_MS
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.errors import ConflictError, FleetError, RefusedError, UnknownError
from outrider_fleet.pki.ca import DEVICE_DAYS
from outrider_fleet.pki.csr import request_key_sha256
from outrider_fleet.store import devices, sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import renewals
from outrider_protocol import topics
from outrider_protocol.errors import ProtocolError
from outrider_protocol.messages import Renewal, RenewRequest

_log: Final = logging.getLogger(__name__)
GRACE_MS: Final = 90 * DAY_MS
DUE_LEFT: Final = 1 / 3  # of the life; the device asks when as much is left


class RenewalRefusedError(RefusedError):
    """No certificate for this key."""

    hint = "Enrol anew: `outrider-fleet token create --kind device --device ID`, then `outrider-agent enrol --again`."


def over_link(fleet: Fleet, change: Change, request: RenewRequest) -> None:
    """Answer a request that came over the device's own session."""
    try:
        answer = _answer(fleet, change, request)
    except (FleetError, ProtocolError) as error:
        change.audit(_asking(request), "device.renew.refused", request.device, {"why": str(error)})
        answer = Renewal("refused", why=str(error))
    change.publish(topics.certificate(request.device), answer.encode(), retain=False)


def over_http(fleet: Fleet, request: RenewRequest) -> Renewal:
    """Answer a request that came from anywhere; raises `RenewalRefusedError` or `RequestRefusedError`."""
    try:
        with fleet.change() as change:
            return _answer(fleet, change, request)
    except FleetError as error:
        _log.warning("renewal of %s refused: %s", request.device, error)
        raise


def _answer(fleet: Fleet, change: Change, request: RenewRequest) -> Renewal:
    key_sha256 = request_key_sha256(request.csr_pem)
    row, present = devices.get(change.connection, request.device), devices.newest_key(change.connection, request.device)
    if row is None or row["state"] not in devices.CONNECTING or present is None or present["revoked_ms"] is not None:
        raise RenewalRefusedError(f"{request.device} is not enrolled")
    if key_sha256 != present["key_sha256"]:  # [REN-2]
        raise RenewalRefusedError(f"{request.device}: the request is for another key than the enrolled one")
    left_ms = present["expires_ms"] - change.now_ms
    if left_ms > DUE_LEFT * DEVICE_DAYS * DAY_MS:
        return Renewal("issued", present["certificate_pem"])
    if left_ms < -GRACE_MS:
        raise RenewalRefusedError(f"{request.device}: its certificate ended more than 90 days ago")
    if left_ms < 0 and not _approved(change, request, key_sha256):
        return Renewal("waiting", why="its certificate has ended: an operator must approve it")
    return Renewal("issued", _issue(fleet, change, request, key_sha256))


def _asking(request: RenewRequest) -> Actor:
    return Actor(f"device:{request.device}", None, sha256(request.encode()).hexdigest())


def _approved(change: Change, request: RenewRequest, key_sha256: str) -> bool:
    """Whether an operator said yes; else the question is kept."""
    asked = sql.find(change.connection, renewals, device=request.device)
    if asked is not None and asked["key_sha256"] == key_sha256:
        return asked["approved_ms"] is not None
    row = {"device": request.device, "key_sha256": key_sha256, "asked_ms": change.now_ms}
    sql.put(change.connection, renewals, {**row, "approved_ms": None, "approved_by": None})
    change.audit(_asking(request), "device.renew.asked", request.device)
    change.touch("devices")
    return False


def _issue(fleet: Fleet, change: Change, request: RenewRequest, key_sha256: str) -> str:
    certificate = fleet.authority.issue_device(request.csr_pem, request.device, DEVICE_DAYS)
    devices.add_key(
        change.connection,
        devices.key_row(change.connection, request.device, key_sha256, change.now_ms)
        | {"certificate_pem": certificate, "expires_ms": change.now_ms + DEVICE_DAYS * DAY_MS},
    )
    sql.remove(change.connection, renewals, renewals.c.device == request.device)
    change.audit(_asking(request), "device.renew", request.device)
    change.touch("devices")
    return certificate


def approve(fleet: Fleet, device: str, actor: str) -> Row:
    """Let a device whose certificate has ended have the next one; raises `UnknownError` or `ConflictError`."""
    with fleet.change() as change:
        if devices.get(change.connection, device) is None:
            raise UnknownError(f"device {device}")
        asked = sql.find(change.connection, renewals, device=device)
        if asked is None:
            raise ConflictError(f"{device} does not wait for an approval")
        approved = {**asked, "approved_ms": change.now_ms, "approved_by": actor}
        sql.put(change.connection, renewals, approved)
        change.audit(actor, "device.approve", device, {"key_sha256": asked["key_sha256"]})
        change.touch("devices")
    return approved
