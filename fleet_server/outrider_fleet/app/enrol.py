"""A device joins: token and signing request against certificate, broker address and root of trust.

1. The token is used up in the same transaction that makes the device.
2. A device id that is enrolled is refused, unless the token was made for that very id.
3. The key stays on the device; only its hash and certificate are stored.
"""

from hashlib import sha256
from typing import Any

from outrider_fleet.app.actor import Actor
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.app.tokens import hashed, token_id
from outrider_fleet.errors import ConflictError, TokenRefusedError
from outrider_fleet.pki.ca import DEVICE_DAYS
from outrider_fleet.pki.csr import request_key_sha256
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.store import devices, sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import devices as devices_table
from outrider_protocol.messages import EnrolRequest, EnrolResponse

DAY_MS = 86_400_000


def enrol(fleet: Fleet, request: EnrolRequest) -> EnrolResponse:
    """Enrol a device; raises `TokenRefusedError`, `ConflictError` or `RequestRefusedError`."""
    key_sha256 = request_key_sha256(request.csr_pem)
    certificate = fleet.authority.issue_device(request.csr_pem, request.device, DEVICE_DAYS)
    with fleet.change() as change:
        _use_token(change, request)
        _put_device(fleet, change, request)
        key = devices.key_row(change.connection, request.device, key_sha256, change.now_ms)
        key |= {"certificate_pem": certificate, "expires_ms": change.now_ms + DEVICE_DAYS * DAY_MS}
        devices.revoke_keys(change.connection, request.device, change.now_ms)
        devices.add_key(change.connection, key)
        actor = Actor(f"device:{request.device}", token_id(hashed(request.token)), _digest(request))
        change.audit(actor, "device.enrol", request.device, {"profile": request.profile, "key_sha256": key_sha256})
        change.touch("devices")
    return _response(fleet, request.device, certificate)


def _digest(request: EnrolRequest) -> str:
    return sha256(request.encode()).hexdigest()


def _use_token(change: Change, request: EnrolRequest) -> None:
    token_sha256 = hashed(request.token)
    row = devices.token(change.connection, token_sha256)
    if row is None or row["kind"] != "device":
        raise TokenRefusedError("the enrolment token is not known")
    if row["used_ms"] is not None:
        raise TokenRefusedError("the enrolment token was used before")
    if row["revoked_ms"] is not None or row["expires_ms"] <= change.now_ms:
        raise TokenRefusedError("the enrolment token has expired")
    if row["device"] not in (None, request.device):
        raise TokenRefusedError(f"the enrolment token was made for {row['device']!r}")
    _check_present(change, request.device, row)
    if not devices.use_token(change.connection, token_sha256, request.device, change.now_ms):
        raise TokenRefusedError("the enrolment token was used before")


def _check_present(change: Change, device: str, token: Row) -> None:
    present = devices.get(change.connection, device)
    if present is not None and present["state"] == "erasing":  # [ERA-5]
        raise ConflictError(f"{device} is being erased: try again when that is done")
    if present is not None and present["state"] in devices.CONNECTING and token["device"] != device:
        raise ConflictError(f"{device} is enrolled already; a token made for it (--device {device}) may replace it")


def _put_device(fleet: Fleet, change: Change, request: EnrolRequest) -> None:
    present = devices.get(change.connection, request.device)
    values: dict[str, Any] = {
        "device": request.device,
        "profile": request.profile,
        "state": "enrolled",
        "pseudonym": (present["pseudonym"] if present else "") or fleet.random_hex(8),
        "enrolled_ms": change.now_ms,
        "facts": request.facts,
        "session": 0,
        "online": 0,
    }
    sql.put(change.connection, devices_table, values)


def _response(fleet: Fleet, device: str, certificate: str) -> EnrolResponse:
    host, port = fleet.broker_address()
    root = TrustRepository(fleet.home.trust).read("root.json").decode()
    return EnrolResponse(device, fleet.config.name, certificate, fleet.authority.ca_pem, host, port, root)
