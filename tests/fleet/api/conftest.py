"""The application on a fleet without processes, and clients with tokens of each kind."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from outrider_fleet.api import application
from outrider_fleet.api.services import Services
from outrider_fleet.app import create_rollout, tokens
from outrider_fleet.app.create_rollout import Wanted
from tests.fleet.app.house import ALL, House


class Client:
    """Asks the application in process, one request an event loop."""

    def __init__(self, app: FastAPI, headers: dict[str, str], address: str) -> None:
        self.app, self.headers, self.address = app, headers, address

    def request(self, method: str, path: str, **how: Any) -> httpx.Response:
        return asyncio.run(self._request(method, path, **how))

    async def _request(self, method: str, path: str, **how: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, client=(self.address, 50_000))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=self.headers, timeout=30
        ) as client:
            return await client.request(method, path, **how)

    def get(self, path: str, **how: Any) -> httpx.Response:
        return self.request("GET", path, **how)

    def head(self, path: str, **how: Any) -> httpx.Response:
        return self.request("HEAD", path, **how)

    def post(self, path: str, **how: Any) -> httpx.Response:
        return self.request("POST", path, **how)

    def put(self, path: str, **how: Any) -> httpx.Response:
        return self.request("PUT", path, **how)


Ask = Callable[..., Client]


@pytest.fixture(scope="session")
def api_house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Two devices that run release 1.0; made once, copied for each test."""
    made = House(tmp_path_factory.mktemp("api"))
    made.enrol("watch-1", "watch-2")
    made.publish("1.0", 1)
    create_rollout.create(made.fleet, Wanted("har", "1.0", "all", ALL), "operator:test")
    for device in ("watch-1", "watch-2"):
        made.succeed(device)
    made.close()
    return made


@pytest.fixture
def house(tmp_path: Path, api_house: House) -> Iterator[House]:
    """The fleet behind the application."""
    made = House(tmp_path, api_house)
    yield made
    made.close()


@pytest.fixture
def ended() -> list[str]:
    """Devices whose sessions were ended."""
    return []


@pytest.fixture
def ask(house: House, ended: list[str]) -> Ask:
    """A client with a token of a kind, or without one."""

    def end(device: str) -> int:
        ended.append(device)
        return 1

    app = application.create(Services(house.fleet, end))

    def client(kind: str | None = None, address: str = "127.0.0.1") -> Client:
        headers = {"Authorization": f"Bearer {tokens.create(house.fleet, kind, 'test')}"} if kind else {}
        return Client(app, headers, address)

    return client
