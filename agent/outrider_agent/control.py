"""The control channel between the supervisor and its children: framing and the list of operations.

1. A `SOCK_STREAM` socketpair; the child finds its end as the number in `OUTRIDER_CONTROL_FD`.
2. A frame is u32 little-endian body length, u8 kind (0 JSON, 1 binary), body. A JSON body is one object with `op`.
3. A JSON object with `"blob": n` is followed by exactly one binary frame of n bytes.
4. A JSON object with `"fds": k` carries k file descriptors (SCM_RIGHTS) on its first byte.
5. A frame beyond `FRAME_BYTES` ends the channel.
6. End of file means that the other side has gone: a child then exits at once (`from_environment` also asks the kernel).
7. Unknown operations are ignored by both sides.

A worker is started as `python -m outrider_agent.worker --artifact DIR --model M --role serve|shadow` with

    OUTRIDER_HOME            the agent's home (agent.toml is read from it: [device] [telemetry] [samples] [drift])
    OUTRIDER_CONTROL_FD      this channel
    OUTRIDER_LISTEN_FD       role serve: the listening Unix socket, kept open by the supervisor
    OUTRIDER_LISTEN_TCP_FD   role serve, only where agent.toml says `http`: a second listening socket on loopback

(`--role probe` has no channel: it loads, runs the golden vectors, prints one JSON object on stdout,
`{"ok": true, "digest", "model_sha256", "load_ms", "latency_us", "checked"}` and exits 0, or
`{"ok": false, "error": class name, "message", "hint"}` and exits 1.)

Supervisor → worker

    lease {outbox_id, seq}      the bulk sequence of the next predictions batch; one at a time, the next comes at once
                                after a `batch` or `unused` that used it up; the first comes before `serve`. A lease
                                replaces one that was not used.
    serve {}                    begin (or, on a held worker, begin again) to accept on the listening sockets
    drain {}                    stop accepting, finish what was begun, answer `Connection: close`, flush, then `drained`
    flush {}                    close the predictions batch now: answer `batch` with the leased seq, or `unused` when it
                                is empty
    cleared {digest}            a labelled check passed for this artifact: leave `rebaselining`
    shadow_on {n} + 1 fd        serve: copy each request's input and class into this SOCK_SEQPACKET socket, never
                                blocking, counting drops; n is how many windows are wanted.
                                shadow: read that socket, compare, report
    shadow_off {}               serve: close the shadow socket
    stop {}                     leave with exit status 0 (after flushing what is held)

Worker → supervisor

    ready {digest, model_sha256, load_ms}      loaded and warmed: `serve` may come
    failed {error, message, hint}              cannot load; the process then exits
    batch {kind, seq, n} + blob                kind `predictions` with the leased seq; `windows` and `samples` with seq
                                               null (the supervisor allots one). The blob is
                                               `telemetry.encode_body(...)`, n its rows
    unused {seq}                               the lease was not used and will not be
    drained {}                                 after `drain`: nothing is in progress, every record was handed over
    event {type, body}                         one entry of the event stream, `messages.Event` without its times
    attest {digest, model_sha256, answered}    each second when changed; `answered` counts this process's real
                                               inferences
    phase {phase}                              one of `messages.PHASES`, when changed
    shadow {n, disagree, dropped}              role shadow: so far, each second when changed, and once n is reached

Supervisor → update process (`python -m outrider_agent.update`)

    begin {floors, folder, server, encrypt} + blob
                                               what update.json holds, where the bytes come from ("" for the broker; the
                                               server is asked second), whether layers are sealed; the raw order
    message {topic} + blob                     a message of a subscribed topic arrived
    proceed {current}                          the accepted order is durable in update.json: go on; what runs then
    stop {}                                    leave; what was fetched stays for the next run

Update process → supervisor

    subscribe {topics}, unsubscribe {topics}   exact topics; a repeated subscribe asks for the retained messages again
    accepted {order, floors}                   the order passed every check before the download
    progress {state, detail}                   the execution entered `state`
    staged {parameters}                        verified, load-tested and committed; the parameters with their defaults
    removal {order}                            a verified order to erase this device; nothing is installed
    failed {state, error, message, hint, claimed}   a named refusal. `state` is an end of the execution, or null: try
                                               again later; `claimed` is what a refused order says of itself

>>> decoder = Decoder()
>>> decoder.feed(frame("lease", {"seq": 7}))
[Message(op='lease', fields={'seq': 7}, blob=None, fds=())]
"""

from __future__ import annotations

import array
import ctypes
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from outrider_agent.errors import ControlError

CONTROL_FD: Final = "OUTRIDER_CONTROL_FD"
LISTEN_FD: Final = "OUTRIDER_LISTEN_FD"
LISTEN_TCP_FD: Final = "OUTRIDER_LISTEN_TCP_FD"
FRAME_BYTES: Final = 8 * 1024 * 1024
READ_BYTES: Final = 256 * 1024
MAX_FDS: Final = 4
_HEADER: Final = struct.Struct("<IB")
_JSON, _BINARY = 0, 1
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class Message:
    """One operation, with its binary part and file descriptors where it has them."""

    op: str
    fields: dict[str, Any]
    blob: bytes | None = None
    fds: tuple[int, ...] = ()


def frame(op: str, fields: dict[str, Any] | None = None, blob: bytes | None = None, fds: int = 0) -> bytes:
    """The bytes of one message; `fds` is the number of descriptors that go with them."""
    value = {"op": op, **(fields or {})}
    if blob is not None:
        value["blob"] = len(blob)
    if fds:
        value["fds"] = fds
    body = json.dumps(value, separators=(",", ":")).encode()
    head = _HEADER.pack(len(body), _JSON) + body
    return head if blob is None else b"".join((head, _HEADER.pack(len(blob), _BINARY), blob))


class Decoder:
    """Turns received bytes into messages; holds at most one incomplete message."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: deque[int] = deque()
        self._waiting: dict[str, Any] | None = None

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> list[Message]:
        """Return the messages that are complete now; raises `ControlError` when the peer breaks the framing."""
        self._buffer += data
        self._fds.extend(fds)
        messages: list[Message] = []
        while (part := self._next_frame()) is not None:
            message = self._assemble(*part)
            if message is not None:
                messages.append(message)
        return messages

    def _next_frame(self) -> tuple[int, bytes] | None:
        if len(self._buffer) < _HEADER.size:
            return None
        length, kind = _HEADER.unpack_from(self._buffer)
        if length > FRAME_BYTES or kind not in {_JSON, _BINARY}:
            raise ControlError(f"a frame of kind {kind} with {length} bytes")
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        return kind, body

    def _assemble(self, kind: int, body: bytes) -> Message | None:
        if (kind == _BINARY) != (self._waiting is not None):
            raise ControlError("a binary frame must follow the JSON frame that announces it, and only that")
        if self._waiting is not None:
            return self._binary(self._waiting, body)
        value = _object(body)
        if "blob" in value:
            self._waiting = value
            return None
        return self._message(value, None)

    def _binary(self, value: dict[str, Any], body: bytes) -> Message:
        self._waiting = None
        if value.pop("blob") != len(body):
            raise ControlError("a binary frame has another length than announced")
        return self._message(value, body)

    def _message(self, value: dict[str, Any], blob: bytes | None) -> Message:
        count = value.pop("fds", 0)
        if not isinstance(count, int) or count > len(self._fds):
            raise ControlError("a message announces descriptors that did not arrive")
        return Message(value.pop("op"), value, blob, tuple(self._fds.popleft() for _ in range(count)))


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"not JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("op"), str):
        raise ControlError("a JSON frame must be an object with `op`")
    return value


class Channel:
    """The child's end: blocking, safe to send from several threads."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._decoder = Decoder()
        self._ready: deque[Message] = deque()
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls) -> Channel:
        """The channel that the supervisor passed to this process; `ControlError` without one."""
        number = os.environ.get(CONTROL_FD, "")
        if not number.isdigit():
            raise ControlError(f"{CONTROL_FD} is not set")
        die_with_parent()
        return cls(socket.socket(fileno=int(number)))

    def fileno(self) -> int:
        """For selectors."""
        return self.sock.fileno()

    def send(
        self, op: str, fields: dict[str, Any] | None = None, blob: bytes | None = None, fds: Sequence[int] = ()
    ) -> None:
        """Send one message; raises `ControlError` when the other side has gone."""
        data = frame(op, fields, blob, len(fds))
        try:
            with self._lock:
                sent = send_with_fds(self.sock, data, fds)
                self.sock.sendall(memoryview(data)[sent:])
        except OSError as error:
            raise ControlError(f"the supervisor's channel is closed: {error}") from error

    def receive(self) -> Message | None:
        """Wait for the next message; None when the other side has gone."""
        while not self._ready:
            data, fds = receive_with_fds(self.sock)
            if not data:
                return None
            self._ready.extend(self._decoder.feed(data, fds))
        return self._ready.popleft()

    def receive_within(self, timeout_s: float) -> Message | None:
        """Wait for the next message, at most so long (None if none came); `ControlError` at end of file."""
        if not self._ready and not select.select([self.sock], [], [], max(0.0, timeout_s))[0]:
            return None
        if not self._ready:
            data, fds = receive_with_fds(self.sock)
            if not data:
                raise ControlError("the supervisor has gone")
            self._ready.extend(self._decoder.feed(data, fds))
        return self._ready.popleft() if self._ready else None

    def close(self) -> None:
        """Close this end."""
        self.sock.close()


def die_with_parent() -> None:
    """Let the kernel end this process when the one that started it ends, however busy this one is."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def send_with_fds(sock: socket.socket, data: bytes | memoryview, fds: Sequence[int]) -> int:
    """One `sendmsg`; returns how many bytes went."""
    if not fds:
        return sock.send(data)
    return sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


def receive_with_fds(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One `recvmsg`: (bytes, descriptors); no bytes at end of file."""
    size = array.array("i").itemsize
    try:
        data, ancillary, _, _ = sock.recvmsg(READ_BYTES, socket.CMSG_LEN(MAX_FDS * size))
    except ConnectionResetError:
        return b"", []
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % size])
    return data, list(fds)
