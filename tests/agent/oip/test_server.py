"""The server's loop on real sockets: docs/spec/local-api.md."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from outrider_agent.oip.http import HEAD_BYTES, Head, response_head
from outrider_agent.worker import server
from outrider_agent.worker.server import CONNECTIONS_MAX, REQUEST_S, Server
from outrider_agent.worker.service import refusal


def echo(head: Head, body: memoryview, close: bool) -> list[bytes | memoryview]:
    """Answer with what was sent."""
    data = bytes(body) or head.path.encode()
    return [response_head(200, "text/plain", len(data), close=close), data]


@dataclass
class Loop:
    """A server stepped by the test itself, with the test's own clock."""

    server: Server
    epoll: select.epoll
    address: str
    now_s: float = 0.0

    def step(self, rounds: int = 20) -> None:
        for _ in range(rounds):
            for number, mask in self.epoll.poll(0.002):
                self.server.ready(number, mask, self.now_s)
            self.server.run_backlog(self.now_s)
        self.server.expire(self.now_s)

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(5)
        sock.connect(self.address)
        return sock


@pytest.fixture
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    address = str(tmp_path_factory.mktemp("s") / "s")
    with select.epoll() as epoll, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(256)
        made = Server(epoll, echo, lambda error: refusal(error, close=True), 10_000_000)
        made.serve([listener])
        yield Loop(made, epoll, address)
        made.close()


def post(body: bytes, more: bytes = b"") -> bytes:
    return b"POST /e HTTP/1.1\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), more, body)


def received(sock: socket.socket) -> bytes:
    sock.setblocking(False)
    data = b""
    try:
        while piece := sock.recv(1 << 20):
            data += piece
    except BlockingIOError:
        return data
    return data + b"<end>"


@pytest.mark.parametrize("size", [1, 7, 100])
def test_requests_arrive_in_any_pieces(loop: Loop, size: int) -> None:
    """AGT-OIP-2: how the bytes are cut changes nothing; the connection is kept."""
    data = post(b"first") + post(b"second")
    with loop.connect() as sock:
        for start in range(0, len(data), size):
            sock.sendall(data[start : start + size])
            loop.step(2)
        loop.step()
        got = received(sock)
    assert got.count(b"200 OK") == 2
    assert got.endswith(b"second")


def test_pipelined_requests_wait_for_their_reader(loop: Loop) -> None:
    """AGT-OIP-8: a client that sends without reading is not read further than one answer ahead."""
    with loop.connect() as sock:
        sock.setblocking(False)
        sent = 0
        body = b"x" * 60_000
        try:
            while sent < 400:
                sock.sendall(post(body))
                sent += 1
                loop.step(1)
        except BlockingIOError:
            pass
        assert sent < 400
        assert received(sock).count(b"200 OK") >= 1


def test_a_large_body_arrives_whole(loop: Loop) -> None:
    """AGT-OIP-2: bodies larger than a socket's buffer, in both directions."""
    body = bytes(range(256)) * 20_000
    got: list[bytes] = []

    def ask() -> None:
        with loop.connect() as sock:
            sock.sendall(post(body))
            data = b""
            while len(data) < len(body):
                data += sock.recv(1 << 20)
            got.append(data)

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive():
        loop.step(1)
    assert got[0].endswith(body)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400 "),
        (b"x" * (HEAD_BYTES + 1), b"400 "),
        (b"POST /e HTTP/1.1\r\nContent-Length: 10000001\r\n\r\n", b"413 "),
        (b"POST /e HTTP/1.1\r\n\r\n", b"411 "),
    ],
)
def test_what_cannot_be_read_ends_the_connection_with_its_name(loop: Loop, data: bytes, status: bytes) -> None:
    """AGT-OIP-3, AGT-OIP-4: the answer names the error, then the connection ends."""
    with loop.connect() as sock:
        sock.sendall(data)
        loop.step()
        got = received(sock)
    assert got.startswith(b"HTTP/1.1 " + status)
    assert b'"hint"' in got
    assert got.endswith(b"<end>")


def test_an_incomplete_request_times_out(loop: Loop) -> None:
    """AGT-OIP-9: it ends with a named error; an idle connection is left alone."""
    with loop.connect() as slow, loop.connect() as idle:
        slow.sendall(post(b"0123456789")[:-3])
        loop.step()
        loop.now_s = REQUEST_S + 1
        loop.step()
        assert b"RequestTimeoutError" in received(slow)
        assert received(idle) == b""


def test_too_many_connections_are_told(loop: Loop) -> None:
    """AGT-OIP-9: the one too many gets 503 and the others go on."""
    socks = [loop.connect() for _ in range(CONNECTIONS_MAX + 1)]
    loop.step(CONNECTIONS_MAX + 5)
    answers = [received(sock) for sock in socks]
    assert sum(b"UnavailableError" in answer for answer in answers) == 1
    for sock in socks:
        sock.close()


def test_drain_answers_what_was_sent_and_closes(loop: Loop) -> None:
    """AGT-OIP-5: a request that was sent before the drain is answered with `Connection: close`; idle ones end."""
    with loop.connect() as idle, loop.connect() as busy:
        loop.step()
        busy.sendall(post(b"last"))
        loop.server.drain()
        loop.step()
        assert received(idle) == b"<end>"
        got = received(busy)
        assert b"Connection: close" in got
        assert got.endswith(b"last<end>")
        with pytest.raises(OSError):
            idle.sendall(b"x")
    assert loop.server.idle


@pytest.mark.parametrize(
    "leave", [lambda s: None, lambda s: s.sendall(post(b"12345")[:-2]), lambda s: s.sendall(post(b"1"))]
)
def test_clients_may_leave_at_any_time(loop: Loop, leave: Callable[[socket.socket], None]) -> None:
    """AGT-OIP-9: nothing of them is kept."""
    sock = loop.connect()
    leave(sock)
    sock.close()
    loop.step()
    assert loop.server.idle
    assert not loop.server.has_backlog


def test_expect_continue(loop: Loop) -> None:
    """AGT-OIP-2: a client that asks first is told to go on."""
    with loop.connect() as sock:
        sock.sendall(post(b"body", b"Expect: 100-continue\r\n")[:-4])
        loop.step()
        assert received(sock) == server._CONTINUE
        sock.sendall(b"body")
        loop.step()
        assert received(sock).endswith(b"body")


def test_a_client_that_reads_nothing_and_asks_to_go_on_ends_nothing(loop: Loop) -> None:
    """AGT-OIP-2: however full its socket is when it asks, the worker goes on, and the request is answered."""
    long = b"GET /%b HTTP/1.1\r\n\r\n" % (b"x" * 2000)
    for answers in range(1, 120):
        with loop.connect() as sock:
            sock.sendall(long * answers + post(b"body", b"Expect: 100-continue\r\n")[:-4])
            loop.step(answers + 5)
            sock.sendall(b"body")
            data = received(sock)
            loop.step(answers + 5)
            sock.setblocking(False)
            assert (data + received(sock)).endswith(b"body"), answers
            if len(data) < answers * 2000:
                return  # its socket was full
