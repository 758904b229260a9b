"""Fetches the trust bundle: roots above the trusted one until none comes, the online set, one model's role.

Subscriptions go out in order and retained messages come back in order, so a root that has not arrived when the rest has
is asked for only while the online set says that it exists.
"""

from __future__ import annotations

from typing import Final

from outrider_agent.update.courier import Courier
from outrider_agent.update.errors import CannotRefreshError, StalledError
from outrider_agent.update.trust_store import Bundle
from outrider_protocol import limits, topics
from outrider_protocol.errors import TooLargeError
from outrider_protocol.messages import TrustOnline

WAIT_S: Final = 10.0
ROOT_WAIT_S: Final = 5.0


def fetch(courier: Courier, model: str, root_version: int, wait_s: float = WAIT_S) -> Bundle:
    """What the fleet server offers now; raises `CannotRefreshError`, or a `ProtocolError` for malformed messages."""
    found = _all(courier, [topics.TRUST_ONLINE, topics.trust_model(model)], wait_s)
    online = TrustOnline.decode(found[topics.TRUST_ONLINE])
    role = found[topics.trust_model(model)]
    if len(role) > limits.ROLE_BYTES:
        raise TooLargeError(f"role {model}", len(role), limits.ROLE_BYTES)
    return Bundle(_roots(courier, root_version, online.root_version), online, model, role)


def _roots(courier: Courier, trusted: int, offered: int) -> dict[int, bytes]:
    last = min(offered, trusted + limits.ROOT_ROTATIONS)
    names = {topics.trust_root(number): number for number in range(trusted + 1, last + 1)}
    found = _all(courier, list(names), ROOT_WAIT_S)
    return {number: found[name] for name, number in names.items() if len(found[name]) <= limits.ROOT_BYTES}


def _all(courier: Courier, wanted: list[str], wait_s: float) -> dict[str, bytes]:
    try:
        return dict(courier.fetch(wanted, stall_s=wait_s))
    except StalledError as error:
        raise CannotRefreshError(f"{', '.join(wanted)}: {error}") from error
