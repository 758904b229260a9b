"""One worker process as the supervisor sees it: what it said of itself, and the sequence it was lent.

1. A worker holds at most one lease. A lease comes back as a batch, as `unused`, or is abandoned when the worker ends.
2. Batches larger than a message are refused here, loudly: their sequence is abandoned.
3. An outbox that gives out no sequence now (a full disk) holds up no answer: the lease is tried again (`lend_missing`).
4. A message that is not what it should be is logged and passed over, whichever it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from outrider_agent.control import Message
from outrider_agent.errors import OutboxError
from outrider_agent.outbox.store import Outbox
from outrider_agent.supervisor.child import Child
from outrider_agent.supervisor.loop import Loop
from outrider_agent.supervisor.state import Release
from outrider_protocol import limits
from outrider_protocol.errors import ProtocolError

_LOG: Final = logging.getLogger(__name__)
ENVELOPE_BYTES: Final = 1024
BODY_BYTES: Final = limits.BATCH_BYTES - ENVELOPE_BYTES


@dataclass(frozen=True)
class Attest:
    """What the worker last attested."""

    digest: str
    model_sha256: str
    answered: int


class Listener(Protocol):
    """Who hears of a worker."""

    def worker_ready(self, worker: Worker) -> None: ...
    def worker_ended(self, worker: Worker, status: int) -> None: ...
    def worker_drained(self, worker: Worker) -> None: ...
    def worker_said(self, worker: Worker, message: Message) -> None: ...


class Worker:
    """A running worker of one release; `role` is serve or shadow."""

    def __init__(
        self, loop: Loop, release: Release, role: str, outbox: Callable[[], Outbox], listener: Listener
    ) -> None:
        self.release, self.role = release, role
        self._outbox, self._listener = outbox, listener
        self._child = Child(loop, f"{role} worker of {release.model} {release.release}", self._message, self._end)
        self.ready = False
        self.serving = False
        self.stopping = False
        self.attest: Attest | None = None
        self.phase = "none"
        self.failure: dict[str, Any] = {}
        self._lease: tuple[str, int] | None = None
        self._ops: Mapping[str, Callable[[Message], None]] = {
            "ready": self._on_ready,
            "failed": self._on_failed,
            "batch": self._on_batch,
            "unused": self._on_unused,
            "drained": self._on_drained,
            "attest": self._on_attest,
            "phase": self._on_phase,
        }

    def start(self, artifact: str, descriptors: Mapping[str, int]) -> None:
        """Start the process."""
        chosen = ("--artifact", artifact, "--model", self.release.model, "--role", self.role)
        self._child.start(["outrider_agent.worker", *chosen], descriptors)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._child.alive

    def serve(self) -> None:
        """Let it accept requests."""
        self.serving = True
        self._lend_if_possible()
        self._child.send("serve")

    def drain(self) -> None:
        """Let it finish; it is held afterwards."""
        self.serving = False
        self._child.send("drain")

    def flush_if_holding(self, seq: int) -> None:
        """Ask for the predictions so far when others wait behind its lease."""
        if self._lease is not None and self._lease[1] == seq:
            self._child.send("flush")

    def send(self, op: str, fields: dict[str, Any] | None = None, fds: Sequence[int] = ()) -> None:
        """Any other operation."""
        self._child.send(op, fields, fds=fds)

    def stop(self, grace_s: float) -> None:
        """Let it leave; what it still hands over is taken."""
        self.stopping = True
        self._child.terminate(grace_s)

    def kill(self) -> None:
        """End it now."""
        self.stopping = True
        self._child.kill()

    def end_unready(self) -> None:
        """It did not load in time: `worker_ended` follows."""
        self._child.kill()

    def wait(self, timeout_s: float) -> None:
        """Block until it has gone."""
        self._child.wait(timeout_s)

    def _message(self, message: Message) -> None:
        handler = self._ops.get(message.op)
        try:
            if handler is None:
                self._listener.worker_said(self, message)
            else:
                handler(message)
        except (KeyError, TypeError, ValueError, ProtocolError) as error:
            _LOG.error("worker of %s: malformed %s (%r)", self.release.model, message.op, error)

    def _on_ready(self, message: Message) -> None:
        self.ready = True
        self.attest = Attest(message.fields["digest"], message.fields["model_sha256"], 0)
        self._listener.worker_ready(self)

    def _on_failed(self, message: Message) -> None:
        self.failure = {name: str(message.fields.get(name, ""))[:500] for name in ("error", "message", "hint")}

    def _on_attest(self, message: Message) -> None:
        fields = message.fields
        self.attest = Attest(fields["digest"], fields["model_sha256"], int(fields["answered"]))
        self._listener.worker_said(self, message)

    def _on_phase(self, message: Message) -> None:
        self.phase = str(message.fields["phase"])
        self._listener.worker_said(self, message)

    def _on_batch(self, message: Message) -> None:
        kind, rows, body = str(message.fields["kind"]), int(message.fields["n"]), message.blob or b""
        too_large = len(body) > BODY_BYTES
        if too_large:
            _LOG.error("worker of %s: a %s batch of %d bytes was refused", self.release.model, kind, len(body))
        if message.fields.get("seq") is None:
            if not too_large:
                self._outbox().put("bulk", kind, rows, body)
            return
        if self._take_back(int(message.fields["seq"])):
            outbox, seq = self._outbox(), int(message.fields["seq"])
            if too_large:
                outbox.abandon("bulk", seq, rows)
            else:
                outbox.fill("bulk", seq, kind, rows, body)
        self._lend_if_possible()

    def _on_unused(self, message: Message) -> None:
        seq = int(message.fields["seq"])
        if self._take_back(seq):
            self._outbox().abandon("bulk", seq)
        self._lend_if_possible()

    def _on_drained(self, _: Message) -> None:
        if self.serving:
            return
        self._abandon()
        self._listener.worker_drained(self)

    def _take_back(self, seq: int) -> bool:
        if self._lease != (self._outbox().outbox_id, seq):
            _LOG.warning("worker of %s: sequence %d is not its lease", self.release.model, seq)
            return False
        self._lease = None
        return True

    def lend_anew(self) -> None:
        """After the outbox was renewed: what was lent from the old one is void."""
        self._lease = None
        self.lend_missing()

    def lend_missing(self) -> None:
        """Where it serves without a lease: none could be had when it should have come."""
        if self.serving:
            self._lend_if_possible()

    def _lend_if_possible(self) -> None:
        try:
            self._lend()
        except OutboxError as error:
            _LOG.error("worker of %s has no lease: %s", self.release.model, error)

    def _lend(self) -> None:
        if self.role != "serve" or not self.alive or self._lease is not None:
            return
        outbox = self._outbox()
        self._lease = (outbox.outbox_id, outbox.reserve("bulk"))
        self._child.send("lease", {"outbox_id": self._lease[0], "seq": self._lease[1]})

    def _abandon(self) -> None:
        lease, self._lease = self._lease, None
        outbox = self._outbox()
        if lease is not None and lease[0] == outbox.outbox_id and outbox.is_open("bulk", lease[1]):
            outbox.abandon("bulk", lease[1])

    def _end(self, status: int) -> None:
        self.serving = False
        self._abandon()
        self._listener.worker_ended(self, status)
