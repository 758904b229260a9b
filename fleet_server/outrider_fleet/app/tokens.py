"""Tokens: made once, shown once, stored as their SHA-256.

1. A device token is single-use, lives at most a day and ends in the fingerprint of the fleet's root certificate.
2. Other tokens live until they are revoked, or for `ttl_s`.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from outrider_fleet.app.actor import Actor
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.errors import InvalidRequestError, LastOperatorError, UnauthenticatedError, UnknownError
from outrider_fleet.store import devices, sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import tokens
from outrider_protocol import ids

KINDS: Final = ("device", "operator", "viewer", "pipeline", "runner")
DAY_S: Final = 86_400.0
LONGEST_S: Final = 100 * 365 * DAY_S


@dataclass(frozen=True)
class Caller:
    """Who asks: a kind of token, its name and id, and the digest of the request."""

    kind: str
    name: str
    token: str | None = None
    request_sha256: str | None = None

    @property
    def actor(self) -> Actor:
        """How the audit log names the caller."""
        return Actor(f"{self.kind}:{self.name}", self.token, self.request_sha256)


def hashed(token: str) -> str:
    """How a token is stored."""
    return sha256(token.encode()).hexdigest()


def token_id(token_sha256: str) -> str:
    """How the audit log names a token: enough to tell it from others, nothing to use it with."""
    return token_sha256[:12]


def create(
    fleet: Fleet,
    kind: str,
    name: str,
    ttl_s: float | None = None,
    *,
    device: str | None = None,
    actor: str = "local",
) -> str:
    """Make a token (`device` binds one of kind `device` to an id); returns its text, which is stored nowhere."""
    if kind not in KINDS:
        raise InvalidRequestError(f"{kind[:40]!r} is not a kind of token ({', '.join(KINDS)})")
    if ttl_s is not None and not 0 < ttl_s <= LONGEST_S:
        raise InvalidRequestError(f"a token lives for some time: ttl_s lies above 0 and up to {LONGEST_S:.0f}")
    if device is not None and (kind != "device" or not ids.device_id(device)):
        raise InvalidRequestError("only a token of kind device is bound to a device")
    text = _text(fleet, kind)
    with fleet.change() as change:
        row = {"token_sha256": hashed(text), "kind": kind, "name": name, "device": device}
        life = _life(change, kind, ttl_s)
        sql.insert(change.connection, tokens, {**row, **life})
        made = {"token": token_id(hashed(text)), "expires_ms": life["expires_ms"]}
        change.audit(actor, "token.create", f"{kind}:{device or name}", made)
    return text


def _text(fleet: Fleet, kind: str) -> str:
    secret = fleet.random_hex(24)
    return f"{secret}.{fleet.authority.fingerprint}" if kind == "device" else f"outrider-{kind}-{secret}"


def _life(change: Change, kind: str, ttl_s: float | None) -> dict[str, int | None]:
    life_s = min(ttl_s or DAY_S, DAY_S) if kind == "device" else ttl_s
    expires_ms = None if life_s is None else change.now_ms + int(life_s * 1000)
    return {"created_ms": change.now_ms, "expires_ms": expires_ms}


def authenticate(fleet: Fleet, text: str) -> Caller:
    """Who holds this token; raises `UnauthenticatedError`."""
    with fleet.look() as connection:
        row = devices.token(connection, hashed(text))
    if row is None or row["kind"] == "device" or row["revoked_ms"] is not None:
        raise UnauthenticatedError("the token is not known")
    if row["expires_ms"] is not None and row["expires_ms"] <= fleet.clock_ms():
        raise UnauthenticatedError("the token has expired")
    return Caller(str(row["kind"]), str(row["name"]), token_id(row["token_sha256"]))


def listed(fleet: Fleet) -> list[dict[str, object]]:
    """Every token, newest first: what the audit log calls it, and whether it still counts."""
    with fleet.look() as connection:
        rows = devices.all_tokens(connection)
    now_ms = fleet.clock_ms()
    kept = ("kind", "name", "device", "created_ms", "expires_ms", "used_by")
    return [
        {"id": token_id(row["token_sha256"]), "state": _state(row, now_ms), **{name: row[name] for name in kept}}
        for row in rows
    ]


def _state(row: Row, now_ms: int) -> str:
    if row["revoked_ms"] is not None:
        return "revoked"
    if row["used_ms"] is not None:
        return "used"
    return "expired" if row["expires_ms"] is not None and row["expires_ms"] <= now_ms else "valid"


def revoke(fleet: Fleet, identifier: str, actor: str) -> dict[str, object]:
    """Refuse a token from now on.

    Raises `UnknownError` where none, or more than one, has this id, and `LastOperatorError`.
    """
    with fleet.change() as change:
        rows = devices.all_tokens(change.connection)
        found = [row for row in rows if token_id(row["token_sha256"]) == identifier]
        if len(found) != 1:
            raise UnknownError(f"token {identifier[:20]!r}")
        operators = [row for row in rows if row["kind"] == "operator" and _state(row, change.now_ms) == "valid"]
        if operators == found:
            raise LastOperatorError(f"{identifier} is the last token of an operator: nobody could make another")
        devices.revoke_token(change.connection, found[0]["token_sha256"], change.now_ms)
        holder = f"{found[0]['kind']}:{found[0]['device'] or found[0]['name']}"
        change.audit(actor, "token.revoke", holder, {"token": identifier})
    return {"id": identifier, "state": "revoked"}
