"""Deleting what is known of a device, and marking what was made of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Table, and_, func, null, or_, select

from outrider_fleet.store import sql
from outrider_fleet.store.tables import (
    batches,
    devices,
    drift_events,
    drift_status,
    erasures,
    execution_events,
    executions,
    gaps,
    group_members,
    labels,
    maintenance_events,
    predictions,
    releases,
    renewals,
    runs,
    samples,
    snapshot_rows,
    streams,
    windows,
)

_DATA: Final[tuple[Table, ...]] = (
    predictions, windows, samples, labels, batches, gaps, streams, drift_status, drift_events, maintenance_events,
    execution_events, renewals, group_members,
)  # fmt: skip
_BLANK: Final[dict[str, Any]] = {
    "pseudonym": "",
    "facts": {},
    "online": 0,
    "agent_version": None,
    "outbox_id": None,
    "model": None,
    "version": None,
    "digest": None,
    "phase": "none",
    "attest_digest": None,
    "attest_model_sha256": None,
    "attest_answered": None,
    "reported": null(),
}


@dataclass(frozen=True)
class Erased:
    """How many rows went, and which snapshots hold samples of the device."""

    rows: int
    snapshots: tuple[str, ...]


def removed(connection: Connection, before_ms: int) -> list[str]:
    """Devices that reported their own erasure before a time, and those whose erasure here was not finished."""
    told = and_(
        executions.c.purpose == "removal", executions.c.state == "removed", executions.c.updated_ms <= before_ms
    )
    ready = and_(devices.c.state == "decommissioning", devices.c.device.in_(select(executions.c.device).where(told)))
    chosen = select(devices.c.device).where(or_(ready, devices.c.state == "erasing"))
    return [str(row["device"]) for row in sql.rows(connection, chosen.order_by(devices.c.device))]


def erase(connection: Connection, device: str, stand_in: str) -> Erased:
    """Delete telemetry, samples, labels and the pseudonym; rows of snapshots lose the device's name."""
    prefix = f"{device}/"
    own = snapshot_rows.c.prediction_id.startswith(prefix, autoescape=True)
    touched = sql.rows(connection, select(snapshot_rows.c.snapshot).where(own).distinct())
    count = sum(sql.remove(connection, table, table.c.device == device) for table in _DATA)
    renamed = f"erased-{stand_in}/" + func.substr(snapshot_rows.c.prediction_id, len(prefix) + 1)
    sql.change(connection, snapshot_rows, own, {"prediction_id": renamed})
    sql.change(connection, devices, devices.c.device == device, _BLANK)
    return Erased(count, tuple(sorted(str(row["snapshot"]) for row in touched)))


def mark(connection: Connection, snapshots: Sequence[str], now_ms: int) -> list[str]:
    """Mark snapshots, the runs that used them, their releases, and what was trained on those; `kind id` of each."""
    waiting, marked = [("snapshot", digest) for digest in snapshots], []
    while waiting:
        kind, name = waiting.pop()
        if sql.insert_new(connection, erasures, {"kind": kind, "id": name, "at_ms": now_ms}):
            marked.append(f"{kind} {name}")
            waiting += _made_of(connection, kind, name)
    return sorted(marked)


def _made_of(connection: Connection, kind: str, name: str) -> list[tuple[str, str]]:
    if kind == "run":
        found = sql.rows(connection, select(releases.c.model, releases.c.version).where(releases.c.run == name))
        return [("release", f"{row['model']}/{row['version']}") for row in found]
    model, _, version = name.partition("/")
    used = (
        runs.c.snapshot == name if kind == "snapshot" else and_(runs.c.model == model, runs.c.base_version == version)
    )
    return [("run", str(row["id"])) for row in sql.rows(connection, select(runs.c.id).where(used))]


def marks(connection: Connection) -> dict[tuple[str, str], int]:
    """(kind, id) → since when it stands on data that was erased."""
    return {(row["kind"], row["id"]): row["at_ms"] for row in sql.rows(connection, select(erasures))}
