"""The closed loop: drift asks for runs, finished runs ask for rollouts, as far as each model's autonomy goes.

1. Only models with a policy are looked at.
2. A run is created on what `domain.drift_policy` decides; its reason is recorded with it.
3. A lone device in alarm gets one open maintenance event.
4. A rollout is created for a run that this server created and that published its release; without autonomy it waits.
"""

import logging
from typing import Any, Final

from sqlalchemy import Connection

from outrider_fleet.app import policies, runs
from outrider_fleet.app.create_rollout import Wanted, create_in
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.app.policies import Policy
from outrider_fleet.domain.drift_policy import Circumstances, Decision, DeviceDrift, Outcome, decide
from outrider_fleet.errors import ConflictError, FleetError, InvalidRequestError, RefusedError, UnknownError
from outrider_fleet.store import drift, training
from outrider_fleet.store.sql import Row
from outrider_protocol.errors import ProtocolError

_log: Final = logging.getLogger(__name__)
OPINION: Final = ("watching", "alarm")


def decision(connection: Connection, model: str, policy: Policy, now_ms: int) -> Decision:
    """What the fleet's drift says about a model now."""
    rows = [row for row in drift.of_model(connection, model) if row["phase"] in OPINION]
    fleet = [DeviceDrift(row["device"], row["phase"] == "alarm", row["estimated_accuracy"]) for row in rows]
    references = [drift.reference_accuracy(connection, row["digest"]) for row in rows if row["phase"] == "alarm"]
    known = [value for value in references if value is not None]
    latest = training.latest(connection, model)
    now = Circumstances(
        reference_accuracy=sum(known) / len(known) if known else None,
        labels=drift.count_training_rows(connection, model),
        last_run_ms=latest["created_ms"] if latest else None,
        running=training.at_work(connection, model) is not None,
        now_ms=now_ms,
    )
    return decide(policy.drift, fleet, now)


def step(fleet: Fleet) -> None:
    """Look at every model with a policy, and at every finished run."""
    for model, said in _decisions(fleet):
        if said.outcome is Outcome.RUN:
            _start_run(fleet, model, said)
        elif said.outcome is Outcome.MAINTENANCE:
            _ask_maintenance(fleet, model, said)
    _start_rollouts(fleet)


def _decisions(fleet: Fleet) -> list[tuple[str, Decision]]:
    with fleet.look() as connection:
        models = [row["model"] for row in drift.all_policies(connection)]
        now_ms = fleet.clock_ms()
        return [(model, decision(connection, model, policies.of(connection, model), now_ms)) for model in models]


def _start_run(fleet: Fleet, model: str, said: Decision) -> None:
    try:
        row = runs.create(fleet, model, said.reason(), "policy")
    except FleetError as error:
        _log.warning("%s: drift asks for a run, but: %s", model, error)
        return
    _log.info("%s: %s is %s: %s", model, row["id"], row["state"], said.why)


def _ask_maintenance(fleet: Fleet, model: str, said: Decision) -> None:
    device = said.alarmed[0]
    with fleet.look() as connection:
        if drift.open_maintenance(connection, device, model) is not None:
            return
    with fleet.change() as change:
        row = {"device": device, "model": model, "text": said.why, "created_ms": change.now_ms}
        drift.add_maintenance(change.connection, row)
        change.touch("drift")


def _start_rollouts(fleet: Fleet) -> None:
    with fleet.look() as connection:
        waiting = training.awaiting_rollout(connection)
    for run in waiting:
        with fleet.change() as change:
            _start_rollout(fleet, change, run)


def _start_rollout(fleet: Fleet, change: Change, run: Row) -> None:
    policy = policies.of(change.connection, run["model"])
    if not policy.rollout:
        return
    wanted = Wanted(
        run["model"],
        run["version"],
        policy.group,
        policy.rollout_spec,
        run=run["id"],
        approved=policy.autonomy.starts_rollouts,
    )
    sent = len(change.messages)
    try:
        with change.connection.begin_nested():
            rollout = create_in(fleet, change, wanted, "policy")
    except (InvalidRequestError, UnknownError, RefusedError, ConflictError, ProtocolError) as error:
        del change.messages[sent:]
        _log.error("%s: its release cannot be rolled out: %s", run["id"], error)
        _mark(change, run, {"rollout": "", "result": {**(run["result"] or {}), "rollout_error": str(error)}})
        return
    _mark(change, run, {"rollout": rollout})


def _mark(change: Change, run: Row, values: dict[str, Any]) -> None:
    training.update(change.connection, run["id"], {**values, "updated_ms": change.now_ms})
    change.touch("runs", "rollouts")
