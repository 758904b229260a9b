"""What pages and commands show: rows put together for reading, nothing decided."""

from collections import Counter
from typing import Any

from sqlalchemy import Connection, select

from outrider_fleet.app import clear_devices, close_loop, policies
from outrider_fleet.domain import plan
from outrider_fleet.errors import UnknownError
from outrider_fleet.store import devices, drift, erasure, releases, rollouts, sql, training
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import drift_status, renewals, streams

_HIDDEN = ("reported", "facts")


def device_list(connection: Connection, after: str | None, limit: int) -> list[Row]:
    """Devices with their drift."""
    found = devices.listed(connection, after=after, limit=limit)
    status = {(row["device"], row["model"]): row for row in sql.rows(connection, select(drift_status))}
    return [
        {
            **{name: value for name, value in row.items() if name not in _HIDDEN},
            "drift": status.get((row["device"], row["model"])),
        }
        for row in found
    ]


def device(connection: Connection, name: str) -> Row:
    """One device with everything; raises `UnknownError`."""
    row = devices.get(connection, name)
    if row is None:
        raise UnknownError(f"device {name}")
    of_device = select(streams).where(streams.c.device == name)
    statuses = sql.rows(connection, select(drift_status).where(drift_status.c.device == name))
    return {
        **row,
        "drift": [{**status, "clearing": _clearing(connection, status)} for status in statuses],
        "streams": sql.rows(connection, of_device),
        "executions": rollouts.device_history(connection, name),
        "renewal": sql.find(connection, renewals, device=name),
    }


def _clearing(connection: Connection, status: Row) -> dict[str, Any] | None:
    if status["phase"] != "rebaselining":
        return None
    labelled = clear_devices.labelled_finding(connection, status)
    group = clear_devices.group_finding(connection, status)
    return {"labelled_check": vars(labelled), "group_test": vars(group)}


def release(connection: Connection, model: str, version: str) -> Row:
    """One release with its artifacts; raises `UnknownError`."""
    row = releases.get(connection, model, version)
    if row is None:
        raise UnknownError(f"release {model} {version}")
    erased_ms = erasure.marks(connection).get(("release", f"{model}/{version}"))
    return {**row, "artifacts": releases.artifacts_of(connection, model, version), "erased_data_ms": erased_ms}


def rollout_list(connection: Connection, after: str | None, limit: int) -> list[Row]:
    """Rollouts with their counts."""
    return [_rollout(connection, row) for row in rollouts.listed(connection, after=after, limit=limit)]


def rollout(connection: Connection, name: str) -> Row:
    """One rollout with executions and events; raises `UnknownError`."""
    row = rollouts.get(connection, name)
    if row is None:
        raise UnknownError(f"rollout {name}")
    return {
        **_rollout(connection, row),
        "executions": rollouts.executions_of(connection, name),
        "restores": rollouts.executions_of(connection, name, "restore"),
        "events": rollouts.events(connection, name),
    }


def _rollout(connection: Connection, row: Row) -> Row:
    members = rollouts.executions_of(connection, row["id"])
    phases = plan.parse(row["spec"]).phases
    exposed = [member for member in members if member["ordered_ms"] is not None]
    return {
        **row,
        "total": len(members),
        "exposed": len(exposed),
        "states": dict(Counter(member["state"] for member in members)),
        "phases": [
            {
                "name": phase.name,
                "bound": phase.bound(len(members)),
                "soak_s": phase.soak_s,
                "current": n == row["phase"],
            }
            for n, phase in enumerate(phases)
        ],
    }


def drift_view(connection: Connection, now_ms: int) -> list[dict[str, Any]]:
    """Drift by model: what the policy makes of it, the devices, the latest events."""
    return [_model_drift(connection, model, now_ms) for model in drift.models(connection)]


def _model_drift(connection: Connection, model: str, now_ms: int) -> dict[str, Any]:
    policy = policies.of(connection, model)
    said = close_loop.decision(connection, model, policy, now_ms)
    return {
        "model": model,
        "decision": said.outcome.value,
        **said.reason(),
        "labels": drift.count_training_rows(connection, model),
        "policy": policy.json(),
        "status": drift.of_model(connection, model),
        "events": [row for row in drift.events(connection, limit=100) if row["model"] == model],
        "maintenance": [row for row in drift.maintenance(connection) if row["model"] == model],
    }


def snapshot_list(connection: Connection, after: int | None, limit: int) -> list[Row]:
    """Snapshots, newest first; `erased_data_ms` where one holds samples of a device that was erased since."""
    marks = erasure.marks(connection)
    found = training.list_snapshots(connection, after=after, limit=limit)
    return [{**row, "erased_data_ms": marks.get(("snapshot", row["digest"]))} for row in found]


def policy_list(connection: Connection) -> list[dict[str, Any]]:
    """Every policy that was set."""
    return [{**row, "spec": policies.of(connection, row["model"]).json()} for row in drift.all_policies(connection)]


def run(connection: Connection, name: str) -> Row:
    """One run; raises `UnknownError`."""
    row = training.get(connection, name)
    if row is None:
        raise UnknownError(f"run {name}")
    return row
