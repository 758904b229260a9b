"""One listening server for the commands of a module."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from outrider_fleet.api import application
from outrider_fleet.api.services import Services
from outrider_fleet.app import create_rollout, tokens
from outrider_fleet.app.create_rollout import Wanted
from tests.fleet.app.house import ALL, House
from tests.fleet.cli.shell import Shell


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A listening server with two devices on release 1.0, and 1.1 published."""
    house = House(tmp_path_factory.mktemp("cli"))
    house.enrol("watch-1", "watch-2")
    house.publish("1.0", 1)
    create_rollout.create(house.fleet, Wanted("har", "1.0", "all", ALL), "operator:test")
    for device in ("watch-1", "watch-2"):
        house.succeed(device)
    house.publish("1.1", 2)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    application_ = application.create(Services(house.fleet))
    server = uvicorn.Server(uvicorn.Config(application_, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    house.home.run.mkdir(exist_ok=True)
    api = {"api": f"http://127.0.0.1:{listener.getsockname()[1]}"}
    house.home.endpoints.write_text(json.dumps(api))
    house.home.operator_token.write_text(tokens.create(house.fleet, "operator", "cli"))
    yield Shell(house)
    server.should_exit = True
    thread.join()
    listener.close()
    house.close()
