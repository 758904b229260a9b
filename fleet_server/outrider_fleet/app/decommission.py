"""The end of a device: it is ordered to erase itself, then everything about it is erased here.

1. While it is being decommissioned a device may connect, and is ordered nothing else.
2. When it has reported `removed` (or an operator does not wait for it) its certificate is revoked, its session ended,
   its telemetry, samples and labels are deleted, and its pseudonym: lineage no longer leads to a device.
3. Snapshots that hold its samples are marked, with runs that used them, their releases, and what was trained on those.
4. What the broker retains of it is purged last, after its session has ended: a last will would come back.
5. What happened stays: executions, orders and the audit log name the device, never its data.
"""

from collections.abc import Callable
from typing import Any, Final

from outrider_fleet.app import orders
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.app.orders import Wish
from outrider_fleet.errors import ConflictError, UnknownError
from outrider_fleet.store import devices, erasure, releases, rollouts, sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import executions
from outrider_protocol import topics
from outrider_protocol.execution import State

EndSessions = Callable[[str], int]
PURPOSE: Final = "removal"
ACK_MS: Final = 1_000  # the device hears that its report has arrived before its session ends


def begin(fleet: Fleet, device: str, actor: str, *, wait: bool = True) -> str:
    """Order the device to erase itself; returns its state. Without `wait`, the caller erases at once (`finish`).

    A device that was revoked, and one of a fleet that never had a release, cannot be ordered anything.
    Raises `UnknownError` or `ConflictError`.
    """
    with fleet.change() as change:
        row = devices.get(change.connection, device)
        if row is None:
            raise UnknownError(f"device {device}")
        if row["state"] == "decommissioned":
            raise ConflictError(f"{device} is decommissioned already")
        artifact = _any_artifact(change, device) if row["state"] in devices.CONNECTING and wait else None
        change.audit(actor, "device.decommission", device, {"waits": artifact is not None})
        state = "erasing" if artifact is None else "decommissioning"  # an erasure is finished by `step` in any case
        devices.update(change.connection, device, {"state": state})
        change.touch("devices")
        if artifact is None:
            return state
        if row["state"] == "enrolled":
            _order(fleet, change, device, artifact)
    return "decommissioning"


def _any_artifact(change: Change, device: str) -> Row | None:
    """The order names an artifact of the fleet, so that its trust metadata can be fetched; it is not installed."""
    last = rollouts.last_order(change.connection, device)
    found = releases.artifact(change.connection, last["digest"]) if last is not None else None
    return found if found is not None else releases.any_artifact(change.connection)


def _order(fleet: Fleet, change: Change, device: str, artifact: Row) -> None:
    row = {
        "rollout": None,
        "device": device,
        "purpose": PURPOSE,
        "model": artifact["model"],
        "version": artifact["version"],
        "digest": artifact["digest"],
        "profile": artifact["profile"],
        "state": State.QUEUED.value,
        "created_ms": change.now_ms,
        "ordered_ms": change.now_ms,
        "updated_ms": change.now_ms,
    }
    number = sql.insert(change.connection, executions, row)
    orders.issue(fleet, change, [Wish(device, artifact, number, {}, remove=True)])


def step(fleet: Fleet, end_sessions: EndSessions) -> None:
    """Finish with every device that has erased itself, and with what was not finished; called now and then."""
    with fleet.look() as connection:
        gone = erasure.removed(connection, fleet.clock_ms() - ACK_MS)
    for device in gone:
        finish(fleet, device, f"device:{device}", end_sessions)


def finish(fleet: Fleet, device: str, actor: str, end_sessions: EndSessions) -> dict[str, Any]:
    """Erase what is here; returns how much. Raises `BrokerError` where the session could not be ended: call again."""
    with fleet.change() as change:
        devices.revoke_keys(change.connection, device, change.now_ms)
        deleted = erasure.erase(change.connection, device, fleet.random_hex(8))
        marked = erasure.mark(change.connection, deleted.snapshots, change.now_ms)
        devices.update(change.connection, device, {"state": "erasing"})
        change.touch("devices", "predictions", "drift", "snapshots", "labels")
    ended = end_sessions(device)
    told = {"rows": deleted.rows, "marked": marked, "sessions_ended": ended}
    with fleet.change() as change:
        row = devices.get(change.connection, device)
        if row is not None and row["state"] == "erasing":  # else somebody was quicker
            devices.update(change.connection, device, {"state": "decommissioned"})
            orders.withdraw(change, device)
            change.publish(topics.presence(device), b"", retain=True)
            change.audit(actor, "device.erased", device, told)
    return told
