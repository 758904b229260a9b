"""One child process and the supervisor's end of its control channel.

1. A child gets a session of its own and dies with the supervisor: `control.Channel.from_environment` asks the kernel
   for it, and end of file on the channel means the same.
2. Sending never blocks: what the socket does not take waits here, bounded by `QUEUE_BYTES`; a child that does not read
   is killed.
3. End of file on the channel, or a broken frame, is the child's end: `on_end` is called once, with its exit status.
4. A child that cannot be started (no memory, no descriptor) has ended: `on_end` follows, with `CANNOT_START`.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from outrider_agent.control import CONTROL_FD, Decoder, Message, frame, receive_with_fds, send_with_fds
from outrider_agent.errors import AgentError, ControlError
from outrider_agent.supervisor.loop import Loop

QUEUE_BYTES: Final = 32 * 1024 * 1024
CANNOT_START: Final = os.EX_OSERR
_LOG: Final = logging.getLogger(__name__)


class Child:
    """A running child; `on_message` hears it."""

    def __init__(
        self, loop: Loop, name: str, on_message: Callable[[Message], None], on_end: Callable[[int], None]
    ) -> None:
        self._loop, self.name = loop, name
        self._on_message, self._on_end = on_message, on_end
        self._decoder = Decoder()
        self._inbox: deque[Message] = deque()
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()
        self._queued_bytes = 0
        self._ended = False
        self._sock: socket.socket
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, arguments: Sequence[str], descriptors: Mapping[str, int] | None = None) -> None:
        """Run `python -m …` in this environment; `descriptors` are inherited, named there by their keys."""
        try:
            self._start(arguments, descriptors or {})
        except OSError as error:
            _LOG.error("%s cannot be started: %s", self.name, error)
            self._ended = True
            self._loop.call_later(0.0, lambda: self._on_end(CANNOT_START))
            return
        self._sock.setblocking(False)
        self._loop.watch(self._sock, self._readable)

    def _start(self, arguments: Sequence[str], descriptors: Mapping[str, int]) -> None:
        ours, theirs = socket.socketpair()
        passed = {CONTROL_FD: theirs.fileno(), **descriptors}
        numbers = {name: str(number) for name, number in passed.items()}
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", *arguments],
                    env={**os.environ, **numbers},
                    stdin=subprocess.DEVNULL,
                    pass_fds=tuple(passed.values()),
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        self._sock = ours

    @property
    def pid(self) -> int:
        """Its process id, 0 where it was never started."""
        return self._process.pid if self._process is not None else 0

    @property
    def alive(self) -> bool:
        """Whether its end has not been noticed yet."""
        return not self._ended

    def send(
        self, op: str, fields: dict[str, Any] | None = None, blob: bytes | None = None, fds: Sequence[int] = ()
    ) -> None:
        """Queue one message; descriptors are duplicated, so the caller may close its own at once."""
        if self._ended:
            return
        data = frame(op, fields, blob, len(fds))
        self._outgoing.append((memoryview(data), [os.dup(fd) for fd in fds]))
        self._queued_bytes += len(data)
        if self._queued_bytes > QUEUE_BYTES:
            _LOG.error("%s does not read its channel: killed", self.name)
            self.kill()
            return
        self._writable()

    def kill(self) -> None:
        """End it now; `on_end` follows."""
        if not self._ended and self._process is not None:
            self._process.kill()

    def terminate(self, grace_s: float) -> None:
        """Ask it to leave, kill it after `grace_s`."""
        self.send("stop")
        self._loop.call_later(grace_s, self.kill)

    def wait(self, timeout_s: float) -> None:
        """Block until it has gone, killing it after `timeout_s`; for the supervisor's own end."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _readable(self) -> None:
        try:
            data, fds = receive_with_fds(self._sock)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._finish()
            return
        try:
            messages = self._decoder.feed(data, fds)
        except ControlError as error:
            _LOG.error("%s: %s", self.name, error)
            self.kill()
            self._finish()
            return
        self._inbox.extend(messages)
        self._deliver()

    def _deliver(self) -> None:
        """One message that raises must not lose those behind it."""
        while self._inbox:
            message = self._inbox.popleft()
            try:
                self._on_message(message)
            except AgentError:
                self._loop.call_later(0.0, self._deliver)
                raise

    def _writable(self) -> None:
        try:
            while self._outgoing:
                self._send_some()
        except BlockingIOError:
            self._loop.watch(self._sock, self._readable, self._writable)
            return
        except OSError:
            self._drop_outgoing()
        self._loop.watch(self._sock, self._readable)

    def _send_some(self) -> None:
        data, fds = self._outgoing[0]
        sent = send_with_fds(self._sock, data, fds)
        for fd in fds:
            os.close(fd)
        self._queued_bytes -= sent
        if sent == len(data):
            self._outgoing.popleft()
        else:
            self._outgoing[0] = (data[sent:], [])

    def _finish(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._loop.forget(self._sock)
        self._sock.close()
        self._drop_outgoing()
        self.wait(1.0)
        self._on_end(self._process.returncode if self._process is not None else CANNOT_START)

    def _drop_outgoing(self) -> None:
        while self._outgoing:
            for fd in self._outgoing.popleft()[1]:
                os.close(fd)
