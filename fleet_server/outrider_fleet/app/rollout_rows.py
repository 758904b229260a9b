"""Between the rollout engine's state and its rows: reading it all, writing what changed."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

from outrider_fleet.domain import plan
from outrider_fleet.domain.gates import Verdict
from outrider_fleet.domain.rollout_state import Member, Note, Rollout, Status
from outrider_fleet.errors import UnknownError
from outrider_fleet.store import devices, releases, rollouts, sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import executions, rollout_events
from outrider_fleet.store.tables import rollouts as rollouts_table
from outrider_protocol.execution import ENDS, State


def load(connection: Connection, rollout: str) -> Rollout:
    """The engine's state of a rollout; raises `UnknownError`."""
    row = rollouts.get(connection, rollout)
    if row is None:
        raise UnknownError(f"rollout {rollout}")
    restores = {item["device"]: item for item in rollouts.executions_of(connection, rollout, "restore")}
    signs = devices.signs_of_rollout(connection, rollout)
    members = [
        _member(item, signs.get(item["device"], (False, 0.0)), restores.get(item["device"]))
        for item in rollouts.executions_of(connection, rollout)
    ]
    return Rollout(
        id=rollout,
        plan=plan.parse(row["spec"]),
        status=Status(row["state"]),
        phase=row["phase"],
        phase_entered_ms=row["phase_entered_ms"],
        members={member.device: member for member in members},
        verdict=Verdict(row["verdict"]),
        why=row["why"],
    )


def _member(row: Row, signs: tuple[bool, float], restore: Row | None) -> Member:
    online, evidence = signs
    return Member(
        device=row["device"],
        state=State(row["state"]),
        digest=row["digest"],
        drifted=bool(row["drifted"]),
        online=online,
        evidence=evidence,
        phase=row["phase"],
        ordered_ms=row["ordered_ms"],
        updated_ms=row["updated_ms"],
        shadow_n=row["shadow_n"],
        shadow_disagree=row["shadow_disagree"],
        error=row["error"],
        restored=restore is not None,
        restore_ended=restore is not None and restore["ended_ms"] is not None,
    )


def newcomers(connection: Connection, rollout: Row, known: Rollout) -> Iterator[Member]:
    """Members of the rollout's group that have no execution in it yet."""
    group = devices.group(connection, rollout["group_name"])
    found = devices.members(connection, group) if group else []
    for row in devices.distinct(_own_model_last(found, rollout["model"])):
        if row["device"] in known.members:
            continue
        artifact = releases.artifact_for(connection, rollout["model"], rollout["version"], row["profile"])
        own = row["drift_model"] == rollout["model"]
        yield Member(
            row["device"],
            State.QUEUED if artifact else State.NO_ARTIFACT,
            artifact["digest"] if artifact else None,
            drifted=own and bool(row["drifted"]),
            online=bool(row["online"]),
            evidence=row["evidence"] if own else 0.0,
        )


def _own_model_last(found: list[Row], model: str) -> list[Row]:
    """`distinct` keeps the last row of a device: let that be the one about this model."""
    return sorted(found, key=lambda row: row["drift_model"] == model)


def save(connection: Connection, before: Rollout, after: Rollout, now_ms: int) -> None:
    """Write what changed from `before` to `after`."""
    row = rollouts.get(connection, after.id)
    if row is None:
        raise UnknownError(f"rollout {after.id}")
    for device, member in after.members.items():
        known = before.members.get(device)
        if known is None:
            _insert(connection, row, member, now_ms)
        elif known != member:
            _update(connection, row, member)
    if _columns(before) != _columns(after):
        ended = after.status not in (Status.PROPOSED, Status.RUNNING, Status.PAUSED, Status.ROLLING_BACK)
        values = {**_columns(after), "updated_ms": now_ms, "ended_ms": (row["ended_ms"] or now_ms) if ended else None}
        sql.change(connection, rollouts_table, rollouts_table.c.id == after.id, values)


def _columns(rollout: Rollout) -> dict[str, Any]:
    return {
        "state": rollout.status.value,
        "phase": rollout.phase,
        "phase_entered_ms": rollout.phase_entered_ms,
        "verdict": rollout.verdict.value,
        "why": rollout.why,
    }


def _insert(connection: Connection, rollout: Row, member: Member, now_ms: int) -> None:
    profile = devices.profile(connection, member.device)
    fixed = {
        "rollout": rollout["id"],
        "device": member.device,
        "purpose": "rollout",
        "model": rollout["model"],
        "version": rollout["version"],
        "digest": member.digest,
        "profile": profile,
        "created_ms": now_ms,
    }
    sql.insert(connection, executions, {**fixed, **_changing(member, now_ms)})


def _update(connection: Connection, rollout: Row, member: Member) -> None:
    where = (
        (executions.c.rollout == rollout["id"])
        & (executions.c.device == member.device)
        & (executions.c.purpose == "rollout")
    )
    sql.change(connection, executions, where, _changing(member, member.updated_ms or 0))


def _changing(member: Member, now_ms: int) -> dict[str, Any]:
    updated_ms = member.updated_ms if member.updated_ms is not None else now_ms
    return {
        "state": member.state.value,
        "phase": member.phase,
        "ordered_ms": member.ordered_ms,
        "updated_ms": updated_ms,
        "ended_ms": updated_ms if member.state in ENDS else None,
        "shadow_n": member.shadow_n,
        "shadow_disagree": member.shadow_disagree,
        "drifted": int(member.drifted),
        "error": member.error,
    }


def record(connection: Connection, rollout: Rollout, note: Note, now_ms: int) -> None:
    """Write a note as an event of the rollout."""
    row = {
        "rollout": rollout.id,
        "at_ms": now_ms,
        "kind": note.kind,
        "phase": rollout.phase,
        "exposed": rollout.exposed,
        "text": note.text,
    }
    sql.insert(connection, rollout_events, row)
