"""Effects of what devices report: executions, drift, presence, state.

1. A report moves an execution only by `domain.execution`; it is kept as an event in any case.
2. A report of a rollout's execution steps that rollout, in the same transaction.
3. An alarm marks a device as drifted until a check clears it; a late alarm of an older artifact does not undo a check.
4. Presence of a lower session is ignored.
"""

import json
from typing import Any

from outrider_fleet.app.fleet import Change
from outrider_fleet.app.rollouts import Rollouts
from outrider_fleet.app.streams import Stream, take_up
from outrider_fleet.domain import execution
from outrider_fleet.domain.execution import Report
from outrider_fleet.domain.rollout_state import Reported, Restored
from outrider_fleet.store import devices, drift, rollouts, sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import execution_events
from outrider_protocol.execution import ENDS, State
from outrider_protocol.messages import DriftReport, Event, ExecutionReport, Presence, ReportedState

Body = ExecutionReport | DriftReport | None


def read(message: Event) -> Body:
    """The body of an event; None where nothing follows from it. Raises `MalformedError`."""
    if message.type == "execution":
        return ExecutionReport.read(message.body)
    return DriftReport.read(message.body) if message.type == "drift" else None


def event(change: Change, session: Rollouts, device: str, message: Event, body: Body) -> None:
    """One entry of the event stream."""
    if isinstance(body, ExecutionReport):
        _execution(change, session, device, message, body)
    elif isinstance(body, DriftReport):
        _drift(change, device, message, body)


# ---------------------------------------------------------------- executions


def _execution(change: Change, session: Rollouts, device: str, message: Event, said: ExecutionReport) -> None:
    row = rollouts.execution(change.connection, device, said.epoch, said.seq)
    report = execution.read_report(State(said.state), said.detail)
    applied = row is not None and _apply(change, session, row, report)
    sql.insert(
        change.connection,
        execution_events,
        {
            "device": device,
            "epoch": said.epoch,
            "seq": said.seq,
            "state": said.state,
            "detail": said.detail,
            "at_ms": message.at_ms,
            "clock_ok": int(message.clock_ok),
            "received_ms": change.now_ms,
            "applied": int(applied),
        },
    )
    change.touch("rollouts", "devices")


def _apply(change: Change, session: Rollouts, row: Row, report: Report) -> bool:
    tracked = row["purpose"] == "rollout" and row["rollout"] is not None
    known = session.get(row["rollout"]).members[row["device"]].state if tracked else State(row["state"])
    if not execution.judge(known, report, row["digest"]).applied:
        return False
    proofs = _proofs(report)
    if proofs:
        rollouts.update_execution(change.connection, row["id"], proofs)
    if report.state is State.SUCCEEDED:
        _runs(change, row, report)
    if tracked:
        session.step(row["rollout"], Reported(row["device"], report))
    else:
        _move_untracked(change, session, row, report)
    return True


def _runs(change: Change, row: Row, report: Report) -> None:
    """The device runs what the execution ordered: known at once, its next reported state says it again."""
    values = {"model": row["model"], "version": row["version"], "digest": row["digest"]}
    if report.proof is not None:
        values |= {"attest_digest": report.proof.digest, "attest_answered": report.proof.answered}
    devices.update(change.connection, row["device"], values)


def _proofs(report: Report) -> dict[str, Any]:
    values: dict[str, Any] = {"hint": report.hint} if report.hint else {}
    if report.latency_us is not None:
        values["latency_us"] = report.latency_us
    if report.proof is not None:
        values |= {"attest_digest": report.proof.digest, "attest_answered": report.proof.answered}
    return values


def _move_untracked(change: Change, session: Rollouts, row: Row, report: Report) -> None:
    ended = report.state in ENDS
    values = {"state": report.state.value, "updated_ms": change.now_ms, "error": report.error}
    rollouts.update_execution(change.connection, row["id"], {**values, "ended_ms": change.now_ms if ended else None})
    if ended and row["rollout"] is not None:
        session.step(row["rollout"], Restored(row["device"]))


# ---------------------------------------------------------------- drift


def _drift(change: Change, device: str, message: Event, said: DriftReport) -> None:
    drift.add_event(
        change.connection,
        {
            "device": device,
            "model": said.model,
            "digest": said.digest,
            "phase": said.phase,
            "score": said.score,
            "window_index": said.window_index,
            "baseline_n": said.baseline_n,
            "estimated_accuracy": said.estimated_accuracy,
            "top": list(said.top),
            "at_ms": message.at_ms,
            "received_ms": change.now_ms,
        },
    )
    if said.phase == "alarm":
        _alarm(change, device, said)
    change.touch("drift", "devices")


def _alarm(change: Change, device: str, said: DriftReport) -> None:
    known = drift.status(change.connection, device, said.model)
    late = known is not None and known["digest"] != said.digest
    if known is not None and late and known["cleared_digest"] == known["digest"]:
        return
    values: Row = {
        "device": device,
        "model": said.model,
        "drifted": 1,
        "since_ms": change.now_ms,
        "estimated_accuracy": said.estimated_accuracy,
        "cleared_by": None,
        "cleared_ms": None,
        "cleared_digest": None,
        "digest": known["digest"] if known is not None and late else said.digest,
        "phase": known["phase"] if known is not None and late else "alarm",
    }
    drift.put_status(change.connection, values)


# ---------------------------------------------------------------- presence and state


def presence(change: Change, row: Row, message: Presence) -> None:
    """A device came or went."""
    if message.session < row["session"]:
        return
    values = {"session": message.session, "online": int(message.online), "seen_ms": change.now_ms}
    devices.update(change.connection, row["device"], values)
    change.touch("devices")


def state(change: Change, row: Row, message: ReportedState) -> None:
    """What a device says of itself."""
    if message.session < row["session"]:
        return
    devices.update(change.connection, row["device"], _columns(message, change.now_ms))
    for name, acked_seq in message.streams.items():
        if name in ("bulk", "event"):
            take_up(change, Stream(row["device"], message.outbox_id, name), acked_seq)
    if message.model is not None and message.digest is not None and message.phase != "none":
        _phase(change, row["device"], message.model, message.digest, message.phase)
    change.touch("devices")


def _columns(message: ReportedState, now_ms: int) -> dict[str, Any]:
    attest = message.attest
    return {
        "session": message.session,
        "seen_ms": now_ms,
        "online": 1,
        "agent_version": message.agent_version,
        "outbox_id": message.outbox_id,
        "model": message.model,
        "version": message.version,
        "digest": message.digest,
        "phase": message.phase,
        "attest_digest": attest.digest if attest else None,
        "attest_model_sha256": attest.model_sha256 if attest else None,
        "attest_answered": attest.answered if attest else None,
        "floor_epoch": message.floors.get("epoch", 0),
        "floor_seq": message.floors.get("seq", 0),
        "reported": _json(message),
        "reported_ms": now_ms,
    }


def _json(message: ReportedState) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(message.encode())
    return value


def _phase(change: Change, device: str, model: str, digest: str, phase: str) -> None:
    known = drift.status(change.connection, device, model)
    if known is not None and (known["digest"], known["phase"]) == (digest, phase):
        return
    values: Row = {"device": device, "model": model, "digest": digest, "phase": phase, "since_ms": change.now_ms}
    values["drifted"] = 1 if phase == "alarm" else known["drifted"] if known is not None else 0
    if known is None or known["digest"] != digest:
        values["evidence"] = 0.0
    drift.put_status(change.connection, values)
    change.touch("drift")
