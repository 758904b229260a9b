"""The orders of this device: from the retained message, through the update process, to an execution.

1. An order that was verified while another execution is under way supersedes it, and waits for that one's end.
2. A refusal before acceptance touches no execution: it is reported, once, for the order that it claims to be.
3. What could not be judged is tried again; see `desired`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from outrider_agent.supervisor import desired, trial
from outrider_agent.supervisor.journal import Journal
from outrider_agent.supervisor.loop import Loop
from outrider_agent.supervisor.machine import Event, Stage
from outrider_agent.supervisor.relay import UpdateRelay
from outrider_agent.supervisor.runner import Runner, release_of
from outrider_agent.supervisor.state import Execution, Release
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


class Orders:
    """What becomes of received orders; the relay's `Hearer`."""

    def __init__(
        self, loop: Loop, runner: Runner, relay: UpdateRelay, journal: Journal, is_serving: Callable[[], bool]
    ) -> None:
        self._loop, self.runner, self._relay, self._journal = loop, runner, relay, journal
        self._is_serving = is_serving
        self._tries = desired.Tries()
        self._envelope: bytes | None = None
        self._next: tuple[Execution, Floors] | None = None
        relay.hearer = self

    @property
    def waiting(self) -> Release | None:
        """The release of the order that waits for the end of another execution."""
        return self._next[0].target if self._next is not None else None

    def received(self, envelope: bytes) -> None:
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
        self._relay.begin(envelope, {"floors": vars(self.runner.state.floors)})

    def _running(self) -> str | None:
        """The digest that has succeeded and runs: at the time an order is taken, not when its checks began."""
        state = self.runner.state
        lost = state.execution is not None and state.execution.stage is Stage.ROLLBACK_FAILED
        return state.current.digest if state.current is not None and not lost else None

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
        self.take_next()

    def _resume(self, execution: Execution, floors: Floors) -> None:
        self.runner.recognise(execution, floors)
        if execution.stage in desired.FETCHING:
            self._relay.proceed(self._running())
        else:
            self._relay.stop()

    def take_next(self) -> None:
        """Begin the order that waited for the end of another execution."""
        if self._next is None or self.runner.busy:
            return
        (execution, floors), self._next = self._next, None
        running = self._running()
        self.runner.accept(execution, floors)
        self._relay.proceed(running)

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
        shadowed = limits.shadow_windows > 0 and self.runner.state.current is not None and self._is_serving()
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
            self.received(envelope)

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
