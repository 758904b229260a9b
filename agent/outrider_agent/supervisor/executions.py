"""Executions on this device: joins the machine's runner with the update process, the workers and the outbox.

1. An order that was verified while another execution is under way supersedes it; a serving candidate goes back first.
2. A refusal before acceptance touches no execution: it is reported for the order that it claims to be.
3. Whatever fails, what serves goes on serving.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from outrider_agent.control import Message
from outrider_agent.durable import Durable
from outrider_agent.paths import Paths
from outrider_agent.supervisor import desired, trial
from outrider_agent.supervisor.journal import Journal
from outrider_agent.supervisor.loop import Loop
from outrider_agent.supervisor.machine import ENDS, Event, Stage
from outrider_agent.supervisor.relay import UpdateRelay
from outrider_agent.supervisor.runner import Runner, release_of
from outrider_agent.supervisor.state import Execution, Release, StateFile, UpdateState
from outrider_agent.supervisor.worker import Worker
from outrider_agent.supervisor.workers import Workers
from outrider_protocol.execution import State
from outrider_protocol.messages import ExecutionReport
from outrider_protocol.trust import Floors

_LOG: Final = logging.getLogger(__name__)
_PROGRESS: Final = {
    "downloading": Event.DOWNLOAD_BEGAN,
    "verifying": Event.VERIFY_BEGAN,
    "staged": Event.FILES_STAGED,
    "validating": Event.VALIDATE_BEGAN,
}
_FAILED: Final = {
    State.NO_ARTIFACT.value: Event.NOTHING_LISTED,
    State.REJECTED.value: Event.REFUSED,
    State.FAILED_UNCHANGED.value: Event.FAILED,
    State.ALREADY_INSTALLED.value: Event.ALREADY_RUNS,
}


class Executions:
    """What this device does about its orders; `Actions`, `Hearer` and `Trial` in one."""

    def __init__(
        self,
        loop: Loop,
        paths: Paths,
        workers: Workers,
        relay: UpdateRelay,
        journal: Journal,
        changed: Callable[[], None],
    ) -> None:
        self._loop, self._paths, self._workers, self._relay = loop, paths, workers, relay
        self._journal, self._changed = journal, changed
        self._disk = Durable()
        self.runner = Runner(StateFile(paths.update, self._disk), self)
        self._tries = desired.Tries()
        self._envelope: bytes | None = None
        self._next: tuple[Execution, Floors] | None = None
        self._shadow = trial.Shadow()
        self._probation_from_s = 0.0
        workers.trial, relay.hearer = self, self

    @property
    def state(self) -> UpdateState:
        """What update.json holds."""
        return self.runner.state

    def start(self) -> None:
        """Count the start, let the current release serve, go on with the execution."""
        self.runner.start()
        if self.state.current is not None:
            self._workers.start_current(self.state.current)
        self.runner.resume()

    # ---------------------------------------------------------------- orders

    def desired(self, envelope: bytes) -> None:
        """The retained order arrived (again)."""
        self._envelope = envelope
        digest = desired.sha256(envelope)
        if self._relay.envelope == envelope or self._tries.refused(digest, self._loop.now_s()):
            return
        if self._next is not None and self._next[0].envelope_sha256 == digest:
            return
        if desired.needs_update(digest, self.runner.execution):
            self._begin(envelope)

    def _begin(self, envelope: bytes) -> None:
        running, floors = self.state.current, self.state.floors
        fields = {"floors": vars(floors), "current": running.digest if running and not self.on_trial else None}
        self._relay.begin(envelope, fields)

    @property
    def on_trial(self) -> bool:
        """Whether something else than the current release serves, or soon will."""
        execution = self.runner.execution
        return execution is not None and execution.stage in {Stage.ACTIVATING, Stage.PROBATION}

    def update_accepted(self, envelope: bytes, fields: dict[str, Any]) -> None:
        """The order passed every check: make it durable, then let the download begin."""
        order, floors = fields["order"], Floors(**fields["floors"])
        digest, numbers = desired.sha256(envelope), order["parameters"]
        execution = Execution(order["epoch"], order["seq"], release_of(order), Stage.NOTIFIED, digest, numbers)
        known = self.runner.execution
        if known is not None and (known.epoch, known.seq) == (execution.epoch, execution.seq):
            self._resume(replace(known, envelope_sha256=execution.envelope_sha256), floors)
            return
        self._next = (execution, floors)
        if self.runner.busy:
            self.runner.offer(Event.SUPERSEDED)
        self._take_next()

    def _resume(self, execution: Execution, floors: Floors) -> None:
        self.runner.recognise(execution, floors)
        if execution.stage in desired.FETCHING:
            self._relay.proceed()
        else:
            self._relay.stop()

    def _take_next(self) -> None:
        if self._next is None or self.runner.busy:
            return
        (execution, floors), self._next = self._next, None
        self.runner.accept(execution, floors)
        self._relay.proceed()

    def update_progress(self, fields: dict[str, Any]) -> None:
        """The update process entered a state."""
        event = _PROGRESS.get(fields["state"])
        if event is not None:
            self.runner.offer(event, fields.get("detail") or {})

    def update_staged(self, fields: dict[str, Any]) -> None:
        """The artifact is committed and has passed its load test."""
        execution = self.runner.execution
        if execution is None:
            return
        self.runner.set_parameters(fields["parameters"])
        limits = trial.Limits.of(fields["parameters"])
        serving = self._workers.serving
        shadowed = limits.shadow_windows > 0 and self.state.current is not None and serving is not None
        if not self.runner.offer(Event.VALIDATED_FOR_SHADOW if shadowed else Event.VALIDATED):
            _LOG.error("%s is staged, but its execution is %s", execution.target.digest, execution.stage.value)

    def update_failed(self, envelope: bytes, fields: dict[str, Any]) -> None:
        """A named refusal, or something that may work later."""
        digest, state = desired.sha256(envelope), fields.get("state")
        wait_s = self._tries.failed(digest, self._loop.now_s(), final=state is not None)
        if wait_s is not None:
            self._loop.call_later(wait_s, lambda: self._again(envelope))
        detail = {name: str(fields.get(name) or "")[:500] for name in ("error", "message", "hint")}
        news = self._tries.is_news(digest, detail["error"])
        execution = self.runner.execution
        if execution is not None and execution.envelope_sha256 == digest and state in _FAILED:
            self.runner.offer(_FAILED[state], {} if state == State.ALREADY_INSTALLED.value else detail)
        elif news:
            self._report_refusal(state, detail, fields.get("claimed"))
        if state is not None:
            self._end_replaced(digest)

    def _again(self, envelope: bytes) -> None:
        if envelope == self._envelope and self._relay.envelope is None:
            self.desired(envelope)

    def _report_refusal(self, state: str | None, detail: dict[str, str], claimed: dict[str, Any] | None) -> None:
        _LOG.warning("order not taken: %s", detail)
        if state is None or claimed is None:
            self._journal.agent("order_not_taken", detail)
            return
        self._journal.execution(ExecutionReport.read({**claimed, "state": state, "detail": detail}))

    def _end_replaced(self, refused_sha256: str) -> None:
        """A refused order took the place of an accepted one that was being fetched: its message will not come again."""
        execution = self.runner.execution
        if execution is None or execution.envelope_sha256 == refused_sha256:
            return
        if execution.stage in desired.FETCHING:
            detail = {"error": "OrderReplacedError", "message": "another order took its place", "hint": ""}
            self.runner.offer(Event.FAILED, detail)

    # ---------------------------------------------------------------- effects (`runner.Actions`)

    def report(self, body: ExecutionReport) -> None:
        """One event, durable."""
        self._journal.execution(body)
        self._changed()
        if self.runner.execution is not None and self.runner.execution.stage in ENDS:
            self._loop.call_later(0.0, self._take_next)

    def await_order(self) -> None:
        """The broker's retained order starts the update process again."""

    def stop_update(self) -> None:
        """The process that works on the next order goes on: it waits for `proceed`."""

    def start_shadow(self, execution: Execution) -> None:
        """Compare the candidate with what serves."""
        self._shadow = trial.Shadow()
        self._workers.start_shadow(execution.target, trial.Limits.of(execution.parameters).shadow_windows)

    def stop_shadow(self) -> None:
        """Enough was compared."""
        self._workers.stop_shadow()

    def start_candidate(self, execution: Execution) -> None:
        """Load it beside what serves."""
        self._workers.start_candidate(execution.target)

    def swap(self, execution: Execution) -> None:
        """Probation begins."""
        del execution
        self._probation_from_s = self._loop.now_s()
        self._workers.swap()

    def promote(self, state: UpdateState) -> None:
        """Succeeded: end what was held, drop what nobody returns to."""
        self._workers.promote()
        self._collect(state)

    def roll_back(self, state: UpdateState, *, keep_without_current: bool) -> None:
        """Back to the last succeeded release."""
        self._workers.roll_back(state.current, keep_without_current=keep_without_current)

    def discard_candidate(self, state: UpdateState) -> None:
        """Its files go, unless they are needed."""
        self._collect(state)

    def _collect(self, state: UpdateState) -> None:
        kept = state.kept() | {worker.release.hex for worker in self._workers.all}
        if state.execution is not None and state.execution.stage not in ENDS:
            kept.add(state.execution.target.hex)
        if self._next is not None:
            kept.add(self._next[0].target.hex)
        for directory in (self._paths.artifacts, self._paths.downloads):
            for path in directory.iterdir() if directory.is_dir() else ():
                if path.name not in kept:
                    self._disk.remove_tree(path)

    # ---------------------------------------------------------------- the trial (`workers.Trial`)

    def candidate_ready(self) -> None:
        """It has loaded, warmed and passed its golden vectors again."""
        self.runner.offer(Event.CANDIDATE_READY)

    def candidate_failed(self, detail: dict[str, Any]) -> None:
        """It ended, or did not load."""
        self.runner.offer(Event.CANDIDATE_FAILED, detail)

    def serving_failed(self, release: Release, detail: dict[str, Any]) -> None:
        """What serves has ended: only on probation is that the candidate's failure."""
        execution = self.runner.execution
        if execution is not None and execution.stage is Stage.PROBATION and execution.target == release:
            self.runner.feed(Event.CANDIDATE_FAILED, detail)

    def returned(self) -> None:
        """The last succeeded release serves again."""
        self.runner.offer(Event.ROLLBACK_DONE)

    def return_failed(self, detail: dict[str, Any]) -> None:
        """It does not."""
        self.runner.offer(Event.ROLLBACK_IMPOSSIBLE, detail)

    def worker_told(self, worker: Worker, message: Message) -> None:
        """Events go to the outbox; counts are judged."""
        if message.op == "event":
            self._journal.event(str(message.fields["type"]), dict(message.fields["body"]))
        elif message.op == "shadow" and worker is self._workers.shadow:
            self._shadow = trial.Shadow(*(int(message.fields[name]) for name in ("n", "disagree", "dropped")))
            self.judge()
        elif worker is self._workers.serving:
            self.judge()
            if message.op == "phase":
                self._changed()

    def judge(self) -> None:
        """Whether shadowing or probation is over; also called every second."""
        execution = self.runner.execution
        if execution is None:
            return
        limits = trial.Limits.of(execution.parameters)
        if execution.stage is Stage.SHADOWING:
            self._judge_shadow(limits)
        elif execution.stage is Stage.PROBATION:
            self._judge_probation(execution, limits)

    def _judge_shadow(self, limits: trial.Limits) -> None:
        serving = self._workers.serving
        drifted = serving is not None and serving.phase == "alarm"
        event = trial.judge_shadow(self._shadow, limits, drifted)
        if event is None:
            return
        counts = {"n": self._shadow.n, "disagree": self._shadow.disagree, "dropped": self._shadow.dropped}
        detail: dict[str, Any] = {"shadow": {**counts, "drifted": drifted}}
        if event is Event.SHADOW_DISAGREED:
            detail["reason"] = "shadow_disagreement"
        self.runner.feed(event, detail)

    def _judge_probation(self, execution: Execution, limits: trial.Limits) -> None:
        worker = self._workers.serving
        attest = worker.attest if worker is not None else None
        attested = attest is not None and attest.digest == execution.target.digest
        answered = attest.answered if attest is not None else 0
        elapsed_s = self._loop.now_s() - self._probation_from_s
        event = trial.judge_probation(attested, answered, elapsed_s, limits, bool(execution.detail.get("no_traffic")))
        if event is Event.NO_TRAFFIC:
            self.runner.feed(event, {**execution.detail, "no_traffic": True, "answered": answered})
        elif event is not None and worker is not None and attest is not None:
            said = {"digest": attest.digest, "model_sha256": attest.model_sha256, "pid": worker.pid}
            self.runner.feed(event, {"attest": {**said, "answered": answered}})


def now_ms() -> int:
    """The device's clock, ms UTC."""
    return time.time_ns() // 1_000_000
