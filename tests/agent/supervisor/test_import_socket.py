"""The socket for imports of a running agent: whoever talks nonsense is dropped, and nothing else happens."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider_agent.air_gap import _through_supervisor
from outrider_agent.errors import UnreachableError
from outrider_agent.supervisor import import_socket
from outrider_agent.supervisor.loop import Loop
from outrider_protocol import limits
from tests.agent.supervisor.house import Authority, until
from tests.agent.supervisor.world import World, new_world


@pytest.fixture(scope="module")
def place(authority: Authority) -> Iterator[tuple[World, Path]]:
    """A running agent without a release, and its socket."""
    with new_world(authority) as made:
        made.agent.start()
        path = made.agent.home / "run" / "supervisor.import"
        until(path.exists, "the socket")
        yield made, path


def said_to(path: Path, data: bytes, *, wait: bool = True) -> bytes:
    """What the supervisor answers before it hangs up."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        try:
            sock.sendall(data)
            if not wait:
                return b""
            return sock.makefile("rb").read()
        except ConnectionError:
            return b""


def request(envelope: str = "{}", folder: str = "/nowhere") -> bytes:
    return json.dumps({"envelope": envelope, "folder": folder}).encode() + b"\n"


NONSENSE = [
    b"\n",
    b"nonsense\n",
    b"[]\n",
    b'{"folder":"/x"}\n',
    b'{"envelope":7,"folder":"/x"}\n',
    request(folder="relative/path"),
    request(envelope=""),
    request(envelope="x" * (limits.ORDER_BYTES + 1)),
    b"x" * (import_socket.REQUEST_BYTES + 10),
]


@pytest.mark.parametrize("data", NONSENSE)
def test_nonsense_is_dropped(place: tuple[World, Path], data: bytes) -> None:
    """AIR-8: no answer, the end of the connection, and the agent goes on."""
    world, path = place
    assert said_to(path, data) == b""
    assert world.status()


def test_an_order_that_is_none_is_refused_by_name(place: tuple[World, Path]) -> None:
    """AIR-8: what has the form of a request is judged, and its refusal told, with the end."""
    _, path = place
    news = [json.loads(line) for line in said_to(path, request()).splitlines()]
    assert [item["said"] for item in news] == ["failed"]
    assert (news[-1]["error"], news[-1]["ended"]) == ("MalformedError", True)


def test_who_leaves_or_says_nothing_holds_nobody_up(place: tuple[World, Path]) -> None:
    """AIR-8: a visitor that hangs up, many that stay silent: the agent answers, and takes the next one."""
    world, path = place
    said_to(path, request(), wait=False)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for sock in silent:
        sock.connect(str(path))
    assert world.status()
    assert said_to(path, request())
    for sock in silent:
        sock.close()


def test_it_is_for_the_agents_user_alone(place: tuple[World, Path]) -> None:
    """AIR-8: nobody else on the machine may bring orders."""
    _, path = place
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_agent_that_ends_is_told(tmp_path: Path) -> None:
    """AIR-8: the command says that the agent has gone; without a socket it does the work itself."""
    with pytest.raises(FileNotFoundError):
        _through_supervisor(tmp_path / "none", b"{}", "/x", lambda _: None)
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        with pytest.raises(FileNotFoundError):
            _through_supervisor(path, b"{}", "/x", lambda _: None)
        server.listen(1)
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        accepted, _ = server.accept()
        accepted.close()
        client.close()
        server.settimeout(5)

        def hang_up() -> None:
            server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(UnreachableError) as caught:
            _through_supervisor(path, b"{}", "/x", lambda _: None)
        assert caught.value.hint


def test_an_endless_request_is_dropped_at_its_limit() -> None:
    """AIR-8: who goes on and on is dropped when the limit is passed, not when the time for asking is over."""
    ours, theirs = socket.socketpair()
    loop = Loop()
    visitor = import_socket._Visitor(loop, theirs, None)  # type: ignore[arg-type]  # nothing is asked for
    chunk = b"x" * 4096
    with ours:
        for _ in range(import_socket.REQUEST_BYTES // len(chunk)):
            ours.sendall(chunk)
            loop.run_once(1.0)
        assert visitor.alive
        ours.sendall(chunk)
        loop.run_once(1.0)
        assert not visitor.alive
    visitor.drop()
    loop.close()
