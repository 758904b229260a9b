"""Running the server: one process on one home, with signer, broker and runner as its children.

1. A second server on the same home is refused, and takes nothing from the first.
2. `run/endpoints.json` appears when everything answers, with the line `ready http://…`, and goes at the end.
3. SIGTERM ends HTTP first, then every part and child; SIGKILL leaves a state from which the next start goes on.
4. HTTP without TLS is served on the loopback only; devices have HTTPS of their own where `[enrolment] port` is given.
"""

import fcntl
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import uvicorn

from outrider_fleet import config as configuration
from outrider_fleet.api import application
from outrider_fleet.api.services import Services
from outrider_fleet.app import blobs
from outrider_fleet.config import FleetConfig, Home
from outrider_fleet.errors import ConfigError, PortTakenError, ServerRunsError
from outrider_fleet.pki.ca import CertificateAuthority
from outrider_fleet.pki.files import private_directory, write_public
from outrider_fleet.server.door import Door
from outrider_fleet.server.initialise import compose
from outrider_fleet.server.parts import Parts
from outrider_fleet.server.periodic import Periodic
from outrider_fleet.server.runner_process import RunnerProcess
from outrider_fleet.store.database import open_database

_log: Final = logging.getLogger(__name__)
GRACE_S: Final = 2
RUNNER_LOOK_S: Final = 1.0


def serve(
    home: Path,
    *,
    http_port: int | None = None,
    mqtt_port: int | None = None,
    broker: Path | None = None,
    runner: bool = True,
) -> None:
    """Serve until SIGTERM, with the external broker of directory `broker` where given.

    Raises a `FleetError` where it cannot start.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for chatty in ("alembic", "tuf"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # uvicorn takes them while it runs, and raises them again afterwards
    config = configuration.load(Home(home).config)
    if broker is not None:
        config = replace(config, broker=replace(config.broker, mosquitto=str(broker)))
    place = Home(home).configured(config)
    with ExitStack() as stack:
        stack.enter_context(_only_one(place))
        listener = stack.enter_context(_listen(config, http_port))
        authority = CertificateAuthority.load(place.ca)
        _log.info("%d files of an earlier life swept", blobs.sweep(place))
        database = open_database(place.url(config))
        stack.callback(database.close)
        parts = Parts(compose(place, config, database, authority), authority, mqtt_port)
        parts.start()
        stack.callback(parts.stop)
        api = f"http://{config.api.host}:{listener.getsockname()[1]}"
        children = RunnerProcess(place, api)
        stack.callback(children.stop)
        services = Services(parts.fleet, parts.gate.revoke, parts.gate.allow, parts.health)
        if config.enrolment.port:
            door = Door(place, config.enrolment, authority, services)
            door.start()
            stack.callback(door.stop)
        server = _Server(parts, services, api, children, watched=runner and config.training.enabled)
        server.run(sockets=[listener])


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


class _Server(uvicorn.Server):
    """Says that it is ready, once it is."""

    def __init__(self, parts: Parts, services: Services, api: str, runner: RunnerProcess, *, watched: bool) -> None:
        app = application.create(services)
        super().__init__(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_S, lifespan="off")
        )
        self._parts, self._api, self._runner = parts, api, runner
        self._told_runner: int | None = None
        self._look = Periodic("runner", RUNNER_LOOK_S, self._runner_look) if watched else None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        self._write_endpoints()
        if self._look is not None:
            self._look.start()
        sys.stdout.write(f"ready {self._api}\n")
        sys.stdout.flush()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell that it ends, then end."""
        self._parts.fleet.home.endpoints.unlink(missing_ok=True)
        if self._look is not None:
            self._look.stop()
        await super().shutdown(sockets)

    def _runner_look(self) -> None:
        self._runner.look()
        if self._runner.pid != self._told_runner:
            self._write_endpoints()

    def _write_endpoints(self) -> None:
        host, port = self._parts.gate.address
        self._told_runner = self._runner.pid
        value: dict[str, Any] = {
            "api": self._api,
            "mqtt_host": host,
            "mqtt_port": port,
            "pids": {"server": os.getpid(), **self._parts.pids(), "runner": self._told_runner},
        }
        write_public(self._parts.fleet.home.endpoints, json.dumps(value).encode())


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    private_directory(home.run)
    with (home.run / "server.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ServerRunsError(f"a server runs on {home.path} already") from error
        home.endpoints.unlink(missing_ok=True)  # a killed server's; a running one's is not ours
        yield


@contextmanager
def _listen(config: FleetConfig, http_port: int | None) -> Iterator[socket.socket]:
    port = config.api.port if http_port is None else http_port
    if not ipaddress.ip_address(config.api.host).is_loopback:
        raise ConfigError(f"[api] host = {config.api.host}: without TLS only the loopback is served")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.api.host, port))
    except OSError as error:
        raise PortTakenError(f"{config.api.host}:{port}: {error.strerror}") from error
    with listener:
        yield listener
