"""Server-sent events, on a real server: streaming does not work in process. Rule: docs/spec/api.md."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from outrider_fleet.api import application
from outrider_fleet.api.application import PREFIX
from outrider_fleet.api.services import Services
from outrider_protocol.messages import Presence
from tests.fleet.app.house import House


@pytest.fixture
def address(house: House) -> Iterator[str]:
    """A listening server."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            application.create(Services(house.fleet)), log_config=None, lifespan="off", timeout_graceful_shutdown=1
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()


def test_events_follow_commits(house: House, address: str) -> None:
    """API-7: after a commit the stream says what kind of thing has changed."""
    with httpx.stream("GET", f"{address}{PREFIX}/events", timeout=10) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": listening"
        house.say("watch-1", "presence", Presence(2, online=False).encode())
        found = [line for line in (next(lines) for _ in range(3)) if line]
    assert found[0] == "event: change"
    assert json.loads(found[1].removeprefix("data: ")) == {"what": ["devices"]}


def test_reader_that_left_is_forgotten(house: House, address: str) -> None:
    """API-7: a closed page costs nothing afterwards."""
    with httpx.stream("GET", f"{address}{PREFIX}/events", timeout=10) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": listening"
        assert len(house.fleet.bus._listeners) == 1
    gone = threading.Event()
    for _ in range(200):
        if not house.fleet.bus._listeners:
            break
        house.fleet.bus.tell({"devices"})
        gone.wait(0.02)
    assert not house.fleet.bus._listeners
