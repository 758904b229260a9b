"""The local API's sockets: one thread, one epoll, keep-alive connections, one request of a connection at a time.

Rules (docs/spec/local-api.md):

- Nothing is allocated for a body before its length was checked; a head that does not end is refused.
- A connection's next request is not read before its last answer is with the kernel: a client that pipelines without
  reading is slowed down by its own socket, and costs one head and one body of memory.
- A request that is begun and not completed in `REQUEST_S` ends its connection with a named error.
- While draining every answer says `Connection: close`; idle connections are closed for reading first, so that a client
  learns from its failed send that the request never ran.

One thread, because inference itself is serial on a small board and a hand-over between threads costs more than an
answer: `examples/bench/local_api.py` measures it.
"""

from __future__ import annotations

import errno
import select
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from outrider_agent.oip.codec import Buffer
from outrider_agent.oip.http import HEAD_BYTES, HEAD_END, Head, check_size, parse_head
from outrider_agent.worker.errors import (
    MalformedRequestError,
    RequestError,
    RequestTimeoutError,
    UnavailableError,
)

READ_BYTES: Final = 64 * 1024
CONNECTIONS_MAX: Final = 64
REQUEST_S: Final = 30.0
HEADS_KEPT: Final = 64
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

Answer = list[Buffer]
Handler = Callable[[Head, memoryview, bool], Answer]
"""(head, body, close after it) → the response, head first. Never raises: errors are responses."""
Refusal = Callable[[RequestError], Answer]


@dataclass
class Connection:
    """One client; `body` is the buffer of the request being read, `filled` its bytes so far."""

    sock: socket.socket
    received: bytes = b""
    head: Head | None = None
    body: bytearray = field(default_factory=bytearray)
    filled: int = 0
    outgoing: deque[memoryview] = field(default_factory=deque)
    begun_s: float | None = None
    closing: bool = False
    ended: bool = False


class Server:
    """Accepts, reads requests, hands them to `handler`, writes answers; the owner's loop calls `ready`."""

    def __init__(self, epoll: select.epoll, handler: Handler, refusal: Refusal, body_max_bytes: int) -> None:
        self._epoll, self._handler, self._refusal = epoll, handler, refusal
        self._body_max_bytes = body_max_bytes
        self._listeners: dict[int, socket.socket] = {}
        self._connections: dict[int, Connection] = {}
        self._heads: dict[bytes, Head] = {}
        self._backlog: deque[int] = deque()
        self.draining = False

    @property
    def idle(self) -> bool:
        """No connection is left."""
        return not self._connections

    @property
    def has_backlog(self) -> bool:
        """Requests are waiting in memory: do not sleep."""
        return bool(self._backlog)

    def serve(self, listeners: list[socket.socket]) -> None:
        """Begin to accept on sockets that somebody else keeps; calling again after a drain is allowed."""
        self.draining = False
        for listener in listeners:
            listener.setblocking(False)
            self._listeners[listener.fileno()] = listener
            self._epoll.register(listener.fileno(), select.EPOLLIN)

    def drain(self) -> None:
        """Stop accepting; answer what was sent, then close."""
        self.draining = True
        for number in self._listeners:
            self._epoll.unregister(number)
        self._listeners.clear()
        for connection in list(self._connections.values()):
            _stop_reading(connection.sock)
            if connection.begun_s is None and not connection.outgoing:
                self._backlog.append(connection.sock.fileno())

    def ready(self, number: int, mask: int, now_s: float) -> bool:
        """Handle one epoll entry; False where the descriptor is not the server's."""
        if number in self._listeners:
            self._accept(self._listeners[number])
        elif number in self._connections:
            self._step(self._connections[number], mask, now_s)
        else:
            return False
        return True

    def run_backlog(self, now_s: float) -> None:
        """Handle one round of requests that were pipelined behind others."""
        for _ in range(len(self._backlog)):
            connection = self._connections.get(self._backlog.popleft())
            if connection is not None:
                self._step(connection, select.EPOLLIN, now_s)

    def expire(self, now_s: float) -> None:
        """End connections whose request has been incomplete for too long."""
        for connection in list(self._connections.values()):
            if connection.begun_s is not None and now_s - connection.begun_s > REQUEST_S:
                self._refuse(connection, RequestTimeoutError(f"not complete after {REQUEST_S:g} s"))

    def close(self) -> None:
        """Close every connection at once; the listening sockets belong to the supervisor."""
        for connection in list(self._connections.values()):
            self._close(connection)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE}:
                return  # another worker took it, the client left, or descriptors ran out: the next event tries again
            raise
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock)
        self._connections[sock.fileno()] = connection
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        if len(self._connections) > CONNECTIONS_MAX:
            self._refuse(connection, UnavailableError(f"more than {CONNECTIONS_MAX} connections"))

    def _step(self, connection: Connection, mask: int, now_s: float) -> None:
        try:
            if connection.outgoing:
                self._flush(connection)
            elif mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._read(connection, now_s)
        except OSError as error:
            if error.errno not in {errno.EPIPE, errno.ECONNRESET}:
                raise
            self._close(connection)
        except RequestError as error:
            self._refuse(connection, error)

    def _read(self, connection: Connection, now_s: float) -> None:
        if connection.head is None and not self._has_head(connection):
            self._receive(connection, now_s)
        if connection.head is None:
            self._find_head(connection)
        else:
            self._fill(connection)
        if connection.head is not None and connection.filled == connection.head.body_bytes:
            self._answer(connection, connection.head)
        elif connection.ended:
            self._close(connection)

    def _has_head(self, connection: Connection) -> bool:
        return HEAD_END in connection.received

    def _receive(self, connection: Connection, now_s: float) -> None:
        try:
            data = connection.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        connection.ended = not data
        if (data or connection.received) and connection.begun_s is None:
            connection.begun_s = now_s
        connection.received = connection.received + data if connection.received else data

    def _find_head(self, connection: Connection) -> None:
        end = connection.received.find(HEAD_END)
        if end > HEAD_BYTES or (end < 0 and len(connection.received) > HEAD_BYTES):
            raise MalformedRequestError(f"a head of more than {HEAD_BYTES} bytes")
        if end < 0:
            return
        end += len(HEAD_END)
        head = self._head(connection.received[:end])
        connection.head = head
        if len(connection.received) - end >= head.body_bytes:
            connection.filled = head.body_bytes  # the whole request came in one piece: no copy
            return
        connection.body = bytearray(head.body_bytes)
        connection.filled = len(connection.received) - end
        connection.body[: connection.filled] = memoryview(connection.received)[end:]
        connection.received = b""
        if head.expects_continue:
            with suppress(BlockingIOError):  # who reads no answers is not invited, and may send all the same
                connection.sock.send(_CONTINUE)
        self._fill(connection)

    def _head(self, data: bytes) -> Head:
        known = self._heads.get(data)
        if known is not None:
            return known
        head = check_size(parse_head(data), self._body_max_bytes)
        if len(self._heads) >= HEADS_KEPT:
            self._heads.clear()
        self._heads[data] = head
        return head

    def _fill(self, connection: Connection) -> None:
        view = memoryview(connection.body)
        while connection.filled < len(view):
            try:
                count = connection.sock.recv_into(view[connection.filled :])
            except BlockingIOError:
                return
            if not count:
                connection.ended = True
                return
            connection.filled += count

    def _answer(self, connection: Connection, head: Head) -> None:
        body, rest = _body_of(connection, head)
        close = self.draining or not head.keep_alive
        connection.head, connection.body, connection.filled = None, bytearray(), 0
        connection.received = rest
        connection.begun_s = None
        connection.closing = close and not (self.draining and HEAD_END in rest)
        self._send(connection, self._handler(head, body, connection.closing))

    def _send(self, connection: Connection, answer: Answer) -> None:
        total = sum(len(part) for part in answer)
        try:
            sent = connection.sock.sendmsg(answer)
        except BlockingIOError:
            sent = 0
        if sent < total:
            connection.outgoing = _unsent(answer, sent)
            self._epoll.modify(connection.sock.fileno(), select.EPOLLOUT)
        else:
            self._sent(connection)

    def _flush(self, connection: Connection) -> None:
        while connection.outgoing:
            part = connection.outgoing[0]
            try:
                sent = connection.sock.send(part)
            except BlockingIOError:
                return
            if sent < len(part):
                connection.outgoing[0] = part[sent:]
            else:
                connection.outgoing.popleft()
        self._epoll.modify(connection.sock.fileno(), select.EPOLLIN)
        self._sent(connection)

    def _sent(self, connection: Connection) -> None:
        if connection.closing or (connection.ended and not self._has_head(connection)):
            self._close(connection)
        elif connection.received or self.draining:
            self._backlog.append(connection.sock.fileno())

    def _refuse(self, connection: Connection, error: RequestError) -> None:
        connection.head, connection.received, connection.closing = None, b"", True
        connection.outgoing.clear()
        try:
            self._send(connection, self._refusal(error))
        except OSError:
            self._close(connection)  # the client has gone: there is nobody to tell

    def _close(self, connection: Connection) -> None:
        number = connection.sock.fileno()
        if self._connections.pop(number, None) is not None:
            self._epoll.unregister(number)
            connection.sock.close()


def _body_of(connection: Connection, head: Head) -> tuple[memoryview, bytes]:
    if connection.body:
        return memoryview(connection.body), b""
    start = connection.received.find(HEAD_END) + len(HEAD_END)
    end = start + head.body_bytes
    return memoryview(connection.received)[start:end], connection.received[end:]


def _stop_reading(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RD)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise


def _unsent(answer: Answer, sent: int) -> deque[memoryview]:
    left: deque[memoryview] = deque()
    for part in answer:
        view = memoryview(part)
        if sent < len(view):
            left.append(view[sent:])
        sent = max(0, sent - len(view))
    return left
