"""Executions on this device: does what the machine decides, and tells it how the trial is going.

1. Whatever fails, what serves goes on serving.
2. Artifacts that nobody runs, returns to or fetches are removed at an execution's end, with what their detectors kept.
3. What cannot be saved now (a full disk) is tried again each `AGAIN_S`; the current release serves all the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from outrider_agent.control import Message
from outrider_agent.durable import Durable
from outrider_agent.errors import DurableError
from outrider_agent.paths import Paths
from outrider_agent.supervisor import trial
from outrider_agent.supervisor.desired_file import DesiredFile
from outrider_agent.supervisor.journal import Journal
from outrider_agent.supervisor.loop import Loop
from outrider_agent.supervisor.machine import ENDS, Event, Stage
from outrider_agent.supervisor.orders import Orders
from outrider_agent.supervisor.relay import UpdateRelay
from outrider_agent.supervisor.runner import Runner
from outrider_agent.supervisor.state import Execution, Release, StateFile, UpdateState
from outrider_agent.supervisor.worker import Worker
from outrider_agent.supervisor.workers import Workers
from outrider_protocol.messages import ExecutionReport

_LOG: Final = logging.getLogger(__name__)
AGAIN_S: Final = 1.0


class Executions:
    """What this device does in its executions; the runner's `Actions` and the workers' `Trial`."""

    def __init__(
        self,
        loop: Loop,
        paths: Paths,
        workers: Workers,
        relay: UpdateRelay,
        journal: Journal,
        changed: Callable[[], None],
        settings: dict[str, Any],
    ) -> None:
        self._loop, self._paths, self._workers = loop, paths, workers
        self._journal, self._changed = journal, changed
        self._disk = Durable()
        self.runner = Runner(StateFile(paths.update, self._disk), self)
        kept = DesiredFile(paths.desired, self._disk)
        self.orders = Orders(loop, self.runner, relay, journal, kept, lambda: workers.serving is not None, settings)
        self._shadow = trial.Shadow()
        self._probation_from_s = 0.0
        workers.trial = self

    @property
    def state(self) -> UpdateState:
        """What update.json holds."""
        return self.runner.state

    def start(self) -> None:
        """Let the current release serve, count the start, go on with the execution."""
        if self.state.current is not None:
            self._workers.start_current(self.state.current)
        self._count_start()

    def _count_start(self) -> None:
        try:
            self.runner.start()
        except DurableError as error:
            _LOG.error("%s (%s)", error, error.hint)
            self._loop.call_later(AGAIN_S, self._count_start)
            return
        self._insist(self.runner.resume)

    def _insist(self, work: Callable[[], object]) -> None:
        """Do it, and again while it cannot be saved and the execution has not moved on without it."""
        execution = self.runner.execution
        try:
            work()
        except DurableError as error:
            _LOG.error("%s (%s)", error, error.hint)
            self._loop.call_later(AGAIN_S, lambda: self._insist_for(execution, work))

    def _insist_for(self, execution: Execution | None, work: Callable[[], object]) -> None:
        if self.runner.execution == execution:
            self._insist(work)

    # ---------------------------------------------------------------- effects (`runner.Actions`)

    def report(self, body: ExecutionReport) -> None:
        """One event, durable."""
        self._journal.execution(body)
        self._changed()
        if self.runner.execution is not None and self.runner.execution.stage in ENDS:
            self._loop.call_later(0.0, self.orders.take_next)

    def await_order(self) -> None:
        """The order that was kept starts the update process again, or else the broker's."""
        self.orders.resume()

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
        if self.orders.waiting is not None:
            kept.add(self.orders.waiting.hex)
        for directory in (self._paths.artifacts, self._paths.downloads):
            for path in directory.iterdir() if directory.is_dir() else ():
                if path.name not in kept:
                    self._disk.remove_tree(path)
        drift = self._paths.var / "drift"
        for path in drift.iterdir() if drift.is_dir() else ():
            if path.name.partition(".")[0] not in kept:
                self._disk.remove(path)

    # ---------------------------------------------------------------- the trial (`workers.Trial`)

    def candidate_ready(self) -> None:
        """It has loaded, warmed and passed its golden vectors again."""
        self._insist(lambda: self.runner.offer(Event.CANDIDATE_READY))

    def candidate_failed(self, detail: dict[str, Any]) -> None:
        """It ended, or did not load."""
        self._insist(lambda: self.runner.offer(Event.CANDIDATE_FAILED, detail))

    def serving_failed(self, release: Release, detail: dict[str, Any]) -> None:
        """What serves has ended: only on probation is that the candidate's failure."""
        execution = self.runner.execution
        if execution is not None and execution.stage is Stage.PROBATION and execution.target == release:
            self._insist(lambda: self.runner.feed(Event.CANDIDATE_FAILED, detail))

    def returned(self) -> None:
        """The last succeeded release serves again."""
        self._insist(lambda: self.runner.offer(Event.ROLLBACK_DONE))

    def return_failed(self, detail: dict[str, Any]) -> None:
        """It does not."""
        self._insist(lambda: self.runner.offer(Event.ROLLBACK_IMPOSSIBLE, detail))

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
