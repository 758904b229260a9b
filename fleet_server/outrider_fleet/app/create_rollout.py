"""A rollout is asked for: everything about it is checked before anything is stored.

1. The release exists, a pipeline that may still signs it, and it is not below its model's floor; the group has members.
2. Every artifact that will be ordered declares the parameters, and their values lie in its ranges.
3. An open rollout of the same model is superseded in the same transaction.
4. One that waits for a person is `proposed`; every other one begins at once.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from outrider_fleet.app import rollout_rows
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.app.rollouts import Rollouts
from outrider_fleet.domain import plan
from outrider_fleet.domain.rollout_state import Acted, Action, Joined, Note
from outrider_fleet.errors import BelowFloorError, InvalidRequestError, UnknownError, WithdrawnError
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.store import counters, devices, releases, rollouts, sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import lineage
from outrider_fleet.store.tables import rollouts as rollouts_table
from outrider_protocol import ids
from outrider_protocol.trust import resolve_parameters


@dataclass(frozen=True)
class Wanted:
    """Which release to which group, how (`spec`: see `domain.plan`), by whom, and for which run."""

    model: str
    version: str
    group: str
    spec: dict[str, Any]
    run: str | None = None
    approved: bool = True


def create(fleet: Fleet, wanted: Wanted, actor: str) -> str:
    """Create a rollout; returns its id. Raises `UnknownError`, `InvalidRequestError`, `RefusedError`."""
    with fleet.change() as change:
        return create_in(fleet, change, wanted, actor)


def create_in(fleet: Fleet, change: Change, wanted: Wanted, actor: str) -> str:
    """The same, within a transaction."""
    parsed = plan.parse(wanted.spec)
    release = releases.get(change.connection, wanted.model, wanted.version)
    if release is None:
        raise UnknownError(f"release {wanted.model} {wanted.version}")
    _check_floor(fleet, wanted.model, release["counter"])
    _check_signed(fleet, change, wanted)
    _check_parameters(change, wanted, parsed.parameters)
    row = _insert(change, wanted, actor)
    session = Rollouts(fleet, change, actor)
    _supersede(session, change, row)
    members = tuple(rollout_rows.newcomers(change.connection, row, session.get(row["id"])))
    if not members:
        raise InvalidRequestError(f"group {wanted.group} has no enrolled device")
    text = f"{wanted.model} {wanted.version} to {wanted.group}: {len(members)} devices"
    rollout_rows.record(change.connection, session.get(row["id"]), Note("created", text), change.now_ms)
    session.step(row["id"], Joined(members))
    session.flush()
    change.audit(actor, "rollout.create", row["id"], {"model": wanted.model, "version": wanted.version})
    change.touch("rollouts")
    return str(row["id"])


def _check_floor(fleet: Fleet, model: str, counter: int) -> None:
    floor = TrustRepository(fleet.home.trust).floors().min_counter.get(model, 0)
    if counter < floor:
        raise BelowFloorError(f"{model}: the release has counter {counter}, the floor is {floor}")


def _check_parameters(change: Change, wanted: Wanted, parameters: dict[str, float]) -> None:
    for artifact in releases.artifacts_of(change.connection, wanted.model, wanted.version):
        resolve_parameters(parameters, releases.parameter_ranges(artifact))


def _check_signed(fleet: Fleet, change: Change, wanted: Wanted) -> None:
    """[ROL-20] What was withdrawn since it was published is not rolled out: no device would take it."""
    trust, now = TrustRepository(fleet.home.trust), dt.datetime.fromtimestamp(change.now_ms / 1000, dt.UTC)
    for artifact in releases.artifacts_of(change.connection, wanted.model, wanted.version):
        path = ids.target_path(artifact["model"], artifact["version"], artifact["profile"])
        target = trust.trusted_target(path, now)
        if target is None or f"sha256:{target.hashes.get('sha256')}" != artifact["digest"]:
            raise WithdrawnError(f"{path}: no pipeline that may sign {wanted.model} vouches for it any more")


def _insert(change: Change, wanted: Wanted, actor: str) -> Row:
    if devices.group(change.connection, wanted.group) is None:
        raise UnknownError(f"group {wanted.group}")
    row = {
        "id": counters.draw_id(change.connection, "ro"),
        "model": wanted.model,
        "version": wanted.version,
        "group_name": wanted.group,
        "state": "running" if wanted.approved else "proposed",
        "phase": 0,
        "phase_entered_ms": None,
        "spec": wanted.spec,
        "verdict": "wait",
        "why": "not looked at yet" if wanted.approved else "waits for approval",
        "created_by": actor,
        "run": wanted.run,
        "created_ms": change.now_ms,
        "updated_ms": change.now_ms,
        "ended_ms": None,
    }
    sql.insert(change.connection, rollouts_table, row)
    edge = {
        "child_kind": "rollout",
        "child_id": row["id"],
        "parent_kind": "release",
        "parent_id": f"{wanted.model}/{wanted.version}",
        "at_ms": change.now_ms,
    }
    sql.insert_new(change.connection, lineage, edge)
    return row


def _supersede(session: Rollouts, change: Change, row: Row) -> None:
    for other in rollouts.open_of_model(change.connection, row["model"]):
        if other != row["id"]:
            session.step(other, Acted(Action.SUPERSEDE, f"by {row['id']} ({row['version']})"))
