"""The orders of this device: brought by the broker or in a folder, through the update process, to an execution.

1. An order that was verified while another execution is under way supersedes it, and waits for that one's end.
2. A refusal before acceptance touches no execution: it is reported, once, for the order that it claims to be.
3. What could not be judged is tried again; see `desired`.
4. An accepted order is kept (`desired_file`), so that a restart goes on with it though nobody brings it again.
5. Where this device's own state is lost, every order is refused by that name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from outrider_agent.errors import StateError
from outrider_agent.supervisor import desired, trial
from outrider_agent.supervisor.desired_file import Desired, DesiredFile
from outrider_agent.supervisor.journal import Journal
from outrider_agent.supervisor.loop import Loop, Timer
from outrider_agent.supervisor.machine import Event, Stage
from outrider_agent.supervisor.relay import UpdateRelay
from outrider_agent.supervisor.runner import Runner, release_of
from outrider_agent.supervisor.state import Execution, Release
from outrider_agent.update import claims
from outrider_protocol.errors import ProtocolError
from outrider_protocol.execution import State
from outrider_protocol.messages import ExecutionReport
from outrider_protocol.trust import Floors

News = Callable[[bytes, dict[str, Any]], None]
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


def _nobody(_envelope: bytes, _news: dict[str, Any]) -> None:
    return


class Orders:
    """What becomes of received orders; the relay's `Hearer`. `settings` go to the update process with each of them."""

    def __init__(
        self,
        loop: Loop,
        runner: Runner,
        relay: UpdateRelay,
        journal: Journal,
        kept: DesiredFile,
        is_serving: Callable[[], bool],
        settings: dict[str, Any] | None = None,
    ) -> None:
        self._loop, self.runner, self._relay, self._journal = loop, runner, relay, journal
        self._kept, self._is_serving, self._settings = kept, is_serving, settings or {}
        self._tries = desired.Tries()
        self._waits: dict[str, Timer] = {}
        self._received: Desired | None = None
        self._imported: Desired | None = None
        self._working = Desired(b"")
        self._next: tuple[Execution, Floors] | None = None
        self.news: News = _nobody
        relay.hearer = self

    @property
    def waiting(self) -> Release | None:
        """The release of the order that waits for the end of another execution."""
        return self._next[0].target if self._next is not None else None

    def received(self, envelope: bytes) -> None:
        """The retained order arrived (again)."""
        self._received = Desired(envelope)
        if not self._tries.refused(desired.sha256(envelope), self._loop.now_s()):
            self._take(self._received)

    def imported(self, envelope: bytes, folder: str) -> None:
        """A person brought an order in a folder; `news` hears how it goes."""
        self._imported = Desired(envelope, folder)
        if not self._take(self._imported):
            execution = self.runner.execution
            stage = execution.stage.value if execution is not None else "known"
            self.news(envelope, {"said": stage, "ended": True})

    def resume(self) -> None:
        """Go on with the accepted order that was being fetched, where it was kept."""
        execution = self.runner.execution
        if execution is not None and self._relay.envelope is None and execution.stage in desired.FETCHING:
            kept = self._kept.load(execution.envelope_sha256)
            if kept is not None:
                self._begin(kept)

    def _take(self, what: Desired) -> bool:
        """Whether the update process looks at it, or does so already."""
        digest = desired.sha256(what.envelope)
        if self._relay.envelope == what.envelope:
            return True
        if self.runner.lost is not None:
            self._refuse(what.envelope, self.runner.lost)
            return True
        if self._next is not None and self._next[0].envelope_sha256 == digest:
            return False
        if not desired.needs_update(digest, self.runner.execution):
            return False
        self._begin(what)
        return True

    def _begin(self, what: Desired) -> None:
        fields = {**self._settings, "floors": vars(self.runner.state.floors), "folder": what.folder}
        self._working = what
        self._relay.begin(what.envelope, fields)

    def _running(self) -> str | None:
        """The digest that has succeeded and runs: at the time an order is taken, not when its checks began."""
        state = self.runner.state
        lost = state.execution is not None and state.execution.stage is Stage.ROLLBACK_FAILED
        return state.current.digest if state.current is not None and not lost else None

    def _refuse(self, envelope: bytes, lost: StateError) -> None:
        try:
            claimed = claims.claim(claims.claimed_order(envelope))
        except ProtocolError:
            claimed = None
        said = {"error": type(lost).__name__, "message": str(lost), "hint": lost.hint, "claimed": claimed}
        self.update_failed(envelope, {**said, "state": State.FAILED_UNCHANGED.value})

    def update_accepted(self, envelope: bytes, fields: dict[str, Any]) -> None:
        """The order passed every check: make it durable, then let the download begin."""
        order, floors = fields["order"], Floors(**fields["floors"])
        digest, numbers = desired.sha256(envelope), order["parameters"]
        execution = Execution(order["epoch"], order["seq"], release_of(order), Stage.NOTIFIED, digest, numbers)
        self._kept.save(self._working)
        known = self.runner.execution
        if known is not None and (known.epoch, known.seq) == (execution.epoch, execution.seq):
            self._recognise(replace(known, envelope_sha256=execution.envelope_sha256), floors)
            return
        self._next = (execution, floors)
        if self.runner.busy:
            self.runner.offer(Event.SUPERSEDED)
        self.take_next()

    def _recognise(self, execution: Execution, floors: Floors) -> None:
        envelope = self._working.envelope
        self.runner.recognise(execution, floors)
        if execution.stage in desired.FETCHING:
            self.news(envelope, {"said": "accepted"})
            self._relay.proceed(self._running())
        else:
            self._relay.stop()
            self.news(envelope, {"said": execution.stage.value, "ended": True})

    def take_next(self) -> None:
        """Begin the order that waited for the end of another execution."""
        if self._next is None or self.runner.busy:
            return
        (execution, floors), self._next = self._next, None
        running = self._running()
        self.runner.accept(execution, floors)
        self.news(self._working.envelope, {"said": "accepted"})
        self._relay.proceed(running)

    def update_progress(self, fields: dict[str, Any]) -> None:
        """The update process entered a state."""
        event = _PROGRESS.get(fields["state"])
        if event is not None:
            self.runner.offer(event, fields.get("detail") or {})
            self.news(self._working.envelope, {"said": fields["state"]})

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
        self.news(self._working.envelope, {"said": "staged", "ended": True})

    def update_failed(self, envelope: bytes, fields: dict[str, Any]) -> None:
        """A named refusal, or something that may work later."""
        digest, state = desired.sha256(envelope), fields.get("state")
        wait_s = self._tries.failed(digest, self._loop.now_s(), final=state is not None)
        if wait_s is not None:
            what = self._working
            self._try_later(digest, what, wait_s)
        detail = {name: str(fields.get(name) or "")[:500] for name in ("error", "message", "hint")}
        news = self._tries.is_news(digest, detail["error"])
        execution = self.runner.execution
        if execution is not None and execution.envelope_sha256 == digest and state in _FAILED:
            self.runner.offer(_FAILED[state], {} if state == State.ALREADY_INSTALLED.value else detail)
        elif news:
            self._report_refusal(state, detail, fields.get("claimed"))
        self.news(envelope, {**detail, "said": "failed", "state": state, "ended": True})
        if state is not None:
            self._after_refusal(digest)

    def _try_later(self, digest: str, what: Desired, wait_s: float) -> None:
        """One try waits for each order: whatever brought it again meanwhile began no second row of tries."""
        if digest in self._waits:
            self._waits[digest].cancel()

        def again() -> None:
            del self._waits[digest]
            self._again(what)

        self._waits[digest] = self._loop.call_later(wait_s, again)

    def _again(self, what: Desired) -> None:
        execution = self.runner.execution
        wanted = what in (self._received, self._imported)
        wanted |= execution is not None and execution.envelope_sha256 == desired.sha256(what.envelope)
        if wanted and self._relay.envelope is None:
            self._take(what)

    def _report_refusal(self, state: str | None, detail: dict[str, str], claimed: dict[str, Any] | None) -> None:
        _LOG.warning("order not taken: %s", detail)
        if state is None or claimed is None:
            self._journal.agent("order_not_taken", detail)
            return
        self._journal.execution(ExecutionReport.read({**claimed, "state": state, "detail": detail}))

    def _after_refusal(self, refused_sha256: str) -> None:
        """A refused order took the place of an accepted one that was being fetched.

        A broker's message will not come again: that execution ends. One that was carried here replaced nothing.
        """
        execution = self.runner.execution
        if execution is None or execution.envelope_sha256 == refused_sha256:
            return
        if self._working.folder:
            self.resume()
        elif execution.stage in desired.FETCHING:
            detail = {"error": "OrderReplacedError", "message": "another order took its place", "hint": ""}
            self.runner.offer(Event.FAILED, detail)
