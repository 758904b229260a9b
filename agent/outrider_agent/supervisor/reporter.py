"""What the device says of itself: reported state for the server, status for the person at the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from outrider_agent import VERSION
from outrider_agent.clock import BUILD_MS
from outrider_agent.config import Config
from outrider_agent.outbox.store import Outbox
from outrider_agent.supervisor.machine import reported
from outrider_agent.supervisor.state import UpdateState
from outrider_agent.supervisor.workers import Workers
from outrider_protocol.messages import Attestation, ExecutionRef, ReportedState


class Reporter:
    """Reads the supervisor's parts; changes nothing."""

    def __init__(
        self,
        config: Config,
        state: Callable[[], UpdateState],
        workers: Workers,
        outbox: Callable[[], Outbox],
        clock_ms: Callable[[], int],
    ) -> None:
        self._config, self._state, self._workers = config, state, workers
        self._outbox, self._clock_ms = outbox, clock_ms

    def reported(self, session: int) -> ReportedState:
        """The last-value message to the server. `streams` holds the last acknowledged sequence of each stream."""
        state, outbox, at_ms = self._state(), self._outbox(), self._clock_ms()
        serving = self._workers.serving
        release = serving.release if serving is not None else None
        return ReportedState(
            session=session,
            agent_version=VERSION,
            profile=self._config.device.profile,
            model=release.model if release else None,
            version=release.release if release else None,
            digest=release.digest if release else None,
            execution=self._execution(state),
            attest=self._attestation(),
            phase=serving.phase if serving is not None else "none",
            floors={"epoch": state.floors.epoch, "seq": state.floors.seq},
            outbox=outbox.counts(),
            streams=outbox.acked(),
            outbox_id=outbox.outbox_id,
            at_ms=at_ms,
            clock_ok=at_ms >= BUILD_MS,
        )

    def status(self, session: int, connected: bool) -> dict[str, Any]:
        """What `outrider-agent status --json` prints."""
        told = asdict(self.reported(session))
        return {**told, "device": self._config.device.id, "connected": connected, "update": self._releases()}

    def _releases(self) -> dict[str, Any]:
        state = self._state()
        named = {"current": state.current, "previous": state.previous, "candidate": state.candidate}
        execution = state.execution.json() if state.execution else None
        return {**{name: asdict(item) if item else None for name, item in named.items()}, "execution": execution}

    def _execution(self, state: UpdateState) -> ExecutionRef | None:
        execution = state.execution
        if execution is None:
            return None
        return ExecutionRef(execution.epoch, execution.seq, reported(execution.stage).value)

    def _attestation(self) -> Attestation | None:
        worker = self._workers.serving
        if worker is None or worker.attest is None:
            return None
        return Attestation(worker.attest.digest, worker.attest.model_sha256, worker.pid, worker.attest.answered)
