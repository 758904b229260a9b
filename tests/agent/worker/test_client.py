"""The client against servers that misbehave: docs/spec/local-api.md."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from outrider_agent.client import Client
from outrider_agent.errors import UnreachableError
from outrider_agent.worker.errors import WorkerGoneError
from tests.agent.worker.kit import listen

X = {"x": np.zeros((1, 2), np.float32)}
BODY = b'{"outputs":[],"parameters":{"prediction_id":"d/o/1/0","digest":"sha256:0"}}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


@contextmanager
def scripted(path: Path, *turns: Callable[[socket.socket], None]) -> Iterator[Client]:
    """A server that treats its n-th connection as the n-th turn says."""

    def run() -> None:
        for turn in turns:
            sock, _ = listener.accept()
            with sock:
                turn(sock)

    with listen(path) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        with Client(path, "har", timeout_s=5) as client:
            yield client
        thread.join(5)


def answer(sock: socket.socket) -> None:
    sock.recv(1 << 16)
    sock.sendall(ANSWER)


def answer_and_close_reading(sock: socket.socket) -> None:
    answer(sock)
    sock.shutdown(socket.SHUT_RD)
    closed.wait(5)


def hang_up(sock: socket.socket) -> None:
    sock.recv(1 << 16)


closed = threading.Event()


def test_a_request_that_cannot_have_run_is_sent_again(tmp_path: Path) -> None:
    """AGT-OIP-10: the old worker closed its side before: the send fails, the new worker answers."""
    closed.clear()
    with scripted(tmp_path / "s", answer_and_close_reading, answer) as client:
        assert client.infer(X).prediction_ids == ["d/o/1/0"]
        threading.Event().wait(0.05)  # the server's shutdown is on its way
        closed.set()
        assert client.infer(X).prediction_ids == ["d/o/1/0"]


def test_a_request_that_may_have_run_is_not_sent_again(tmp_path: Path) -> None:
    """AGT-OIP-10, AGT-WRK-7: it ends in `WorkerGoneError`; the next call connects anew."""
    with scripted(tmp_path / "s", hang_up, answer) as client:
        with pytest.raises(WorkerGoneError) as caught:
            client.infer(X)
        assert caught.value.hint
        assert client.infer(X).digest == "sha256:0"


def test_nobody_listens(tmp_path: Path) -> None:
    """AGT-OIP-10: a named error with a hint."""
    with Client(tmp_path / "none.sock") as client:
        with pytest.raises(UnreachableError) as caught:
            client.infer(X)
        assert caught.value.hint
        assert not client.ready()
