"""A request that is sent twice is performed once.

1. The key belongs to its caller; the same key with another request is a conflict.
2. Key and effect are stored in one transaction.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.errors import ConflictError
from outrider_fleet.store import sql
from outrider_fleet.store.tables import idempotency


def once(
    fleet: Fleet, actor: str, key: str | None, request: bytes, perform: Callable[[Change], dict[str, Any]]
) -> dict[str, Any]:
    """Perform, or return what the first request with this key was answered; raises `ConflictError`."""
    request_sha256 = sha256(request).hexdigest()
    with fleet.change() as change:
        known = sql.find(change.connection, idempotency, actor=actor, key=key) if key else None
        if known is not None and known["request_sha256"] != request_sha256:
            raise ConflictError(f"idempotency key {key!r} was used for another request")
        if known is not None:
            answered: dict[str, Any] = known["response"]
            return answered
        response = perform(change)
        if key:
            row = {"actor": actor, "key": key, "request_sha256": request_sha256, "response": response}
            sql.insert(change.connection, idempotency, {**row, "created_ms": change.now_ms})
    return response
