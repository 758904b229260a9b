"""Groups: lists of devices, or queries that are answered anew each time.

1. `all` always exists and holds every enrolled device.
2. A dynamic query knows `profile` and `prefix` (of the device id), both must fit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from outrider_fleet.app.fleet import Fleet
from outrider_fleet.errors import ConflictError, InvalidRequestError, UnknownError
from outrider_fleet.store import devices, sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import group_members, groups
from outrider_protocol import ids


def create(fleet: Fleet, name: str, members: Sequence[str] | None, query: Mapping[str, Any] | None, actor: str) -> Row:
    """Create a static group (`members`) or a dynamic one (`query`); raises a `FleetError`."""
    if (members is None) == (query is None):
        raise InvalidRequestError("a group has either devices or a query")
    if query is not None and (
        set(query) - {"profile", "prefix"} or not all(isinstance(v, str) for v in query.values())
    ):
        raise InvalidRequestError("a query knows profile and prefix, both texts")
    with fleet.change() as change:
        if devices.group(change.connection, ids.model_name(name)) is not None:
            raise ConflictError(f"group {name} exists")
        kind = "static" if query is None else "dynamic"
        row = {"name": name, "kind": kind, "query": dict(query) if query else None, "created_ms": change.now_ms}
        sql.insert(change.connection, groups, row)
        for device in members or []:
            if devices.get(change.connection, device) is None:
                raise UnknownError(f"device {device}")
            sql.insert_new(change.connection, group_members, {"name": name, "device": device})
        change.audit(actor, "group.create", name)
        change.touch("devices")
    return {**row, "devices": sorted(members or [])}
