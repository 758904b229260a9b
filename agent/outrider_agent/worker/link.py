"""The worker's end of the supervisor's channel, never blocking: inference goes on whatever the supervisor does.

Rules (docs/spec/local-api.md):

- What cannot be sent now waits in memory up to `WAITING_BYTES`; beyond it batches are dropped and counted, smaller
  messages still wait.
- End of file means that the supervisor has gone: the worker ends.
- Only what changed is told: attestation and phase are not repeated.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from outrider_agent.control import Decoder, Message, frame, receive_with_fds
from outrider_agent.errors import ControlError
from outrider_protocol.messages import DriftReport

WAITING_BYTES: Final = 16 * 1024 * 1024


@dataclass
class Told:
    """What was said last, so that it is not repeated."""

    answered: int = -1
    phase: str = ""


class SupervisorLink:
    """Queues messages to the supervisor and reads its operations; an `Outlet` for the recorder."""

    def __init__(self, sock: socket.socket, epoll: select.epoll) -> None:
        sock.setblocking(False)
        self._sock, self._epoll = sock, epoll
        self._decoder = Decoder()
        self._waiting: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._told = Told()
        self.dropped = 0
        epoll.register(sock.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        """For the epoll."""
        return self._sock.fileno()

    def receive(self) -> list[Message]:
        """The operations that have arrived; raises `ControlError` when the supervisor has gone."""
        try:
            data, fds = receive_with_fds(self._sock)
        except BlockingIOError:
            return []
        if not data:
            raise ControlError("the supervisor has gone")
        return self._decoder.feed(data, fds)

    def tell(self, op: str, fields: dict[str, Any] | None = None, blob: bytes | None = None) -> None:
        """Queue one message and send what the kernel takes."""
        data = frame(op, fields, blob)
        self._waiting.append(memoryview(data))
        self._waiting_bytes += len(data)
        self.push()

    def push(self) -> None:
        """Send what waits, as far as it goes; raises `ControlError` when the supervisor has gone."""
        try:
            while self._waiting:
                sent = self._sock.send(self._waiting[0])
                self._waiting_bytes -= sent
                if sent < len(self._waiting[0]):
                    self._waiting[0] = self._waiting[0][sent:]
                else:
                    self._waiting.popleft()
        except BlockingIOError:
            pass  # the epoll says when it goes on
        except OSError as error:
            raise ControlError(f"the supervisor has gone: {error}") from error
        self._epoll.modify(self._sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if self._waiting else 0))

    def push_all(self) -> None:
        """Send everything, waiting for the supervisor: the last thing a worker does."""
        self._sock.setblocking(True)
        self.push()

    def batch(self, kind: str, seq: int | None, n: int, body: bytes) -> None:
        """See `Outlet`."""
        if self._waiting_bytes + len(body) > WAITING_BYTES:
            self.dropped += n
            if seq is not None:
                self.tell("unused", {"seq": seq})
            return
        self.tell("batch", {"kind": kind, "seq": seq, "n": n}, body)

    def drift(self, report: DriftReport) -> None:
        """See `Outlet`."""
        self.tell("event", {"type": "drift", "body": report.body()})

    def phase(self, phase: str) -> None:
        """See `Outlet`."""
        if phase != self._told.phase:
            self._told.phase = phase
            self.tell("phase", {"phase": phase})

    def attest(self, digest: str, model_sha256: str, answered: int) -> None:
        """Tell what runs and how much it has answered, when that changed."""
        if answered != self._told.answered:
            self._told.answered = answered
            self.tell("attest", {"digest": digest, "model_sha256": model_sha256, "answered": answered})
