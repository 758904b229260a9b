"""The workers of this device: one serves, at most one candidate loads, one may be held, one may shadow.

1. The worker of the current release is started again when it dies, with growing pauses.
2. A swap lets the candidate accept first and the old worker drain after; the old one is held until probation ends.
3. Rolling back takes the held worker where there is one: no loading, no pause.
4. The listening sockets outlive every worker.
5. A candidate that cannot be started at all (its address is taken) has failed: what serves goes on.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol

from outrider_agent.config import Config
from outrider_agent.control import Message
from outrider_agent.errors import ConfigError
from outrider_agent.outbox.store import Outbox
from outrider_agent.paths import Paths
from outrider_agent.supervisor.backoff import Backoff
from outrider_agent.supervisor.listeners import Listeners, listen
from outrider_agent.supervisor.loop import Loop, Timer
from outrider_agent.supervisor.state import Release
from outrider_agent.supervisor.worker import Worker

_LOG: Final = logging.getLogger(__name__)


class Trial(Protocol):
    """Who hears how the candidate, the shadow and the return are doing."""

    def candidate_ready(self) -> None: ...
    def candidate_failed(self, detail: dict[str, Any]) -> None: ...
    def serving_failed(self, release: Release, detail: dict[str, Any]) -> None: ...
    def returned(self) -> None: ...
    def return_failed(self, detail: dict[str, Any]) -> None: ...
    def worker_told(self, worker: Worker, message: Message) -> None: ...


class Workers:
    """Starts, swaps, holds and ends worker processes."""

    def __init__(self, loop: Loop, paths: Paths, config: Config, outbox: Callable[[], Outbox]) -> None:
        self._loop, self._paths, self._config, self._outbox = loop, paths, config, outbox
        self._listeners: dict[str, Listeners] = {}
        self._backoff = Backoff(first_s=0.25, limit_s=30.0)
        self._restart: Timer | None = None
        self.trial: Trial
        self.serving: Worker | None = None  # answers requests, or will when it has loaded
        self.candidate: Worker | None = None
        self.held: Worker | None = None
        self.shadow: Worker | None = None
        self._returning = False

    @property
    def all(self) -> list[Worker]:
        """Every worker that was not asked to leave."""
        return [worker for worker in (self.serving, self.candidate, self.held, self.shadow) if worker is not None]

    @property
    def any_alive(self) -> bool:
        """Whether a process of a worker is still there."""
        return any(worker.alive for worker in self.all)

    def start_current(self, release: Release) -> None:
        """Let the current release serve."""
        self.serving = self._start(release, "serve")

    def start_candidate(self, release: Release) -> None:
        """Load the candidate beside what serves; `candidate_ready` or `candidate_failed` follows."""
        self._end(self.candidate)
        self.candidate = None
        try:
            self.candidate = self._start(release, "serve")
        except ConfigError as error:
            detail = {"error": type(error).__name__, "message": str(error), "hint": error.hint}
            self._loop.call_later(0.0, lambda: self.trial.candidate_failed(detail))

    def swap(self) -> None:
        """The candidate accepts; what served drains and is held."""
        fresh, self.candidate = self.candidate, None
        if fresh is None:
            raise AssertionError("no candidate to swap in")
        self._end(self.held)
        old, self.held = self.serving, None
        self.serving = fresh
        fresh.serve()
        if old is not None and old.alive and old.ready:
            self.held = old
            old.drain()
        else:
            self._end(old)

    def promote(self) -> None:
        """Probation is over: nobody is held."""
        held, self.held = self.held, None
        self._end(held)

    def roll_back(self, current: Release | None, *, keep_without_current: bool) -> None:
        """Let `current` serve; `returned` or `return_failed` follows."""
        candidate, self.candidate = self.candidate, None
        self._end(candidate)
        if current is None:
            self._roll_back_to_nothing(keep=keep_without_current)
            return
        if self.serving is not None and self.serving.release.digest == current.digest and self.held is None:
            self.trial.returned()
            return
        self._return_to(current)

    def start_shadow(self, release: Release, windows: int) -> None:
        """Load the candidate as a shadow; copies flow to it once it is ready."""
        self.stop_shadow()
        self.shadow = self._start(release, "shadow")
        self._shadow_windows = windows

    def stop_shadow(self) -> None:
        """End the shadow and the copying."""
        shadow, self.shadow = self.shadow, None
        self._end(shadow)
        if self.serving is not None:
            self.serving.send("shadow_off")

    def flush_blocking(self) -> None:
        """Ask the worker whose open lease holds others back for what it has; lend where a lease is missing."""
        for worker in self.all:
            worker.lend_missing()
        seq = self._outbox().blocking("bulk")
        if seq is not None:
            for worker in self.all:
                worker.flush_if_holding(seq)

    def stop(self, grace_s: float) -> None:
        """Let every worker leave and hand over what it holds."""
        for worker in self.all:
            worker.stop(grace_s)

    def close(self) -> None:
        """Close the listening sockets."""
        for listeners in self._listeners.values():
            listeners.close()

    # ---------------------------------------------------------------- what workers say (`worker.Listener`)

    def worker_ready(self, worker: Worker) -> None:
        """Loaded and warmed."""
        if worker is self.candidate:
            self.trial.candidate_ready()
        elif worker is self.shadow:
            self._connect_shadow(worker)
        elif worker is self.serving:
            worker.serve()
            self._backoff.succeeded()
            if self._returning:
                self._returning = False
                self.trial.returned()
            elif self.shadow is not None and self.shadow.ready:
                self._connect_shadow(self.shadow)

    def worker_ended(self, worker: Worker, status: int) -> None:
        """A process has gone: expected, or a failure."""
        if worker.stopping:
            return
        detail = {"error": "WorkerEndedError", "message": f"exit status {status}", **worker.failure}
        _LOG.error("worker of %s %s ended: %s", worker.release.model, worker.release.release, detail)
        if worker is self.candidate:
            self.candidate = None
            self.trial.candidate_failed(detail)
        elif worker is self.shadow:
            self.shadow = None
            self.trial.candidate_failed(detail)
        elif worker is self.held:
            self.held = None
        elif worker is self.serving:
            self._serving_ended(worker, detail)

    def worker_drained(self, worker: Worker) -> None:
        """Nothing is in progress in it any more: it is held, or leaves."""
        if worker is not self.held:
            self._end(worker)

    def worker_said(self, worker: Worker, message: Message) -> None:
        """Attestation, phase, shadow counts, events."""
        self.trial.worker_told(worker, message)

    # ----------------------------------------------------------------

    def _serving_ended(self, worker: Worker, detail: dict[str, Any]) -> None:
        self.serving = None
        if self._returning:
            self._returning = False
            self.trial.return_failed(detail)
            self._start_later(worker.release)
            return
        self.trial.serving_failed(worker.release, detail)  # on probation: it is rolled back, and something serves
        if self.serving is None:
            self._start_later(worker.release)

    def _start_later(self, release: Release) -> None:
        if self._restart is not None:
            self._restart.cancel()

        def again() -> None:
            if self.serving is None:
                self.start_current(release)

        self._restart = self._loop.call_later(self._backoff.next_s(), again)

    def _roll_back_to_nothing(self, *, keep: bool) -> None:
        if not keep:
            serving, self.serving = self.serving, None
            self._end(serving)
        self.trial.returned()

    def _return_to(self, current: Release) -> None:
        old, self.serving = self.serving, None
        held, self.held = self.held, None
        if held is not None and held.alive:
            self.serving = held
            held.serve()
            self._drain_away(old)
            self.trial.returned()
            return
        self._returning = True
        self.start_current(current)
        self._drain_away(old)

    def _drain_away(self, worker: Worker | None) -> None:
        if worker is not None and worker.alive:
            worker.stopping = True
            worker.drain()
            self._loop.call_later(self._config.supervisor.drain_s, worker.kill)

    def _connect_shadow(self, shadow: Worker) -> None:
        if self.serving is None or not self.serving.ready:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            shadow.send("shadow_on", {"n": self._shadow_windows}, fds=[theirs.fileno()])
            self.serving.send("shadow_on", {"n": self._shadow_windows}, fds=[ours.fileno()])

    def _start(self, release: Release, role: str) -> Worker:
        worker = Worker(self._loop, release, role, self._outbox, self)
        descriptors = self._listening(release.model).descriptors() if role == "serve" else {}
        worker.start(str(self._paths.artifact(release.hex)), descriptors)
        self._loop.call_later(self._config.supervisor.worker_start_s, lambda: self._check_started(worker))
        return worker

    def _check_started(self, worker: Worker) -> None:
        if worker.alive and not worker.ready and not worker.stopping:
            worker.failure = {"error": "WorkerStartError", "message": "it did not load in time", "hint": ""}
            worker.end_unready()

    def _listening(self, model: str) -> Listeners:
        if model not in self._listeners:
            self._listeners[model] = listen(self._paths.model_socket(model), self._config.model(model))
        return self._listeners[model]

    def _end(self, worker: Worker | None) -> None:
        if worker is not None:
            worker.stop(self._config.supervisor.drain_s)
