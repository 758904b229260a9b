"""How many releases a role goes on listing: the bundle that a device fetches stays small however old the model is.

1. A role lists at most `limits.ROLE_TARGETS` artifacts: with the top-level metadata about 8 KB compressed.
2. The releases with the lowest counters leave first, whole; what is being signed never does.
3. A release that left can be signed again: it has kept its bytes and its counter.

>>> listed = {"har/1/a": {"custom": {"counter": 1}}, "har/2/a": {"custom": {"counter": 2}}}
>>> leaving(listed, room=1)
['har/1/a']
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from outrider_protocol import limits


def with_room(current: bytes, wanted: int) -> tuple[bytes, list[str]]:
    """The role's metadata without the releases that must leave for `wanted` new artifacts, and what left.

    The signatures no longer fit: what comes back is to be signed anew. What is no role comes back as it was.
    """
    try:
        role = json.loads(current)
        listed = role["signed"]["targets"]
        gone = leaving(listed, max(0, limits.ROLE_TARGETS - wanted))
    except (ValueError, KeyError, TypeError, AttributeError):
        return current, []
    for path in gone:
        del listed[path]
    return json.dumps(role).encode(), gone


def leaving(listed: Mapping[str, Any], room: int) -> list[str]:
    """The paths that leave so that at most `room` stay, lowest counters first."""
    counters = {path: int(target["custom"]["counter"]) for path, target in listed.items()}
    gone: list[str] = []
    for counter in sorted(set(counters.values())):
        if len(listed) - len(gone) <= room:
            break
        gone += sorted(path for path in listed if counters[path] == counter)
    return gone
