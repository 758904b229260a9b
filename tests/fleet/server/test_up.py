"""The server as processes: made, started, killed, ended. Rules: docs/spec/server.md."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from outrider_fleet.errors import ConfigError, ConflictError, FleetError
from outrider_fleet.processes.child import Child
from outrider_fleet.server import initialise, serve
from outrider_fleet.server.periodic import Periodic
from outrider_fleet.signing.offline import Offline

BIN = Path(sys.executable).parent


class Up:
    """One `outrider-fleet up`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        command = [BIN / "outrider-fleet", "--home", home, "up", "--http-port", "0", "--mqtt-port", "0"]
        self.log = (home.parent / "up.log").open("ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline().strip()

    @property
    def endpoints(self) -> dict[str, Any]:
        return dict(json.loads((self.home / "run" / "endpoints.json").read_text()))

    def health(self) -> dict[str, Any]:
        return dict(httpx.get(f"{self.endpoints['api']}/api/v1/health", timeout=5, trust_env=False).json())

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()
        return status


def eventually(look: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        pause.wait(0.02)
    raise AssertionError(f"last seen {seen!r}")


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("up")
    initialise(directory / "home", "test", Offline(directory / "offline"))
    return directory / "home"


@pytest.fixture
def up(home: Path) -> Iterator[Up]:
    made = Up(home)
    yield made
    if made.process.poll() is None:
        made.end()


def test_initialise_only_in_an_empty_place(home: Path, tmp_path: Path) -> None:
    """SRV-1: offline keys are elsewhere, tokens are 0600, and a second time is refused."""
    assert sorted(path.name for path in (home.parent / "offline").glob("*.pem"))[:1] == ["root-1.pem"]
    assert not list(home.rglob("root-*.pem"))
    assert not (home / "ca" / "root.key").exists()
    for name in ("operator.token", "runner.token"):
        assert (home / "keys" / name).stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError):
        initialise(home, "again", Offline(tmp_path / "offline"))
    assert not (tmp_path / "offline").exists()


def test_initialise_after_one_that_failed(tmp_path: Path) -> None:
    """SRV-1: what a ceremony that failed left behind is no home, and the next try says so."""
    (tmp_path / "stick").write_text("no folder")
    with pytest.raises(NotADirectoryError):
        initialise(tmp_path / "home", "test", Offline(tmp_path / "stick" / "offline"))
    with pytest.raises(ConfigError, match="an `init` that did not end left it"):
        initialise(tmp_path / "home", "test", Offline(tmp_path / "offline"))


def test_life_of_a_server(home: Path, up: Up) -> None:
    """SRV-2, SRV-3 and SRV-4: ready, alone, found after a second was refused, and gone with all its children."""
    endpoints = up.endpoints
    assert up.ready == f"ready {endpoints['api']}"
    assert up.health()["broker"] is True
    second = subprocess.run(
        [BIN / "outrider-fleet", "--home", home, "up", "--http-port", "0"], capture_output=True, text=True, check=False
    )
    assert second.returncode == 4
    assert second.stderr.startswith("error: ServerRunsError: a server runs on ")
    assert up.endpoints == endpoints
    pids = [pid for pid in endpoints["pids"].values() if pid]
    assert len(pids) == 3
    assert up.end() == 0
    assert not [pid for pid in pids if alive(pid)]
    assert not (home / "run" / "endpoints.json").exists()


def test_a_taken_port(home: Path) -> None:
    """SRV-3: where the HTTP interface cannot listen, nothing is started, and the port and the cure are named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        command = [BIN / "outrider-fleet", "--home", home, "up", "--http-port", port]
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
    first, second = refused.stderr.strip().splitlines()
    assert (refused.returncode, first) == (4, f"error: PortTakenError: 127.0.0.1:{port}: Address already in use")
    assert "--http-port" in second
    assert not (home / "run" / "endpoints.json").exists()


def test_children_are_started_again(up: Up) -> None:
    """SRV-6: the broker and the signer come back, on the same ports."""
    before = up.endpoints
    os.kill(before["pids"]["broker"], signal.SIGKILL)
    os.kill(before["pids"]["signer"], signal.SIGKILL)
    eventually(lambda: up.health()["broker_restarts"] == 1)
    eventually(lambda: up.health()["broker"] and up.health()["signer"])
    token = (up.home / "keys" / "operator.token").read_text()
    headers = {"Authorization": f"Bearer {token}"}
    address = f"{before['api']}/api/v1/trust/refresh"
    eventually(lambda: httpx.post(address, headers=headers, trust_env=False).status_code == 200)


def test_killed_server_is_followed(home: Path, up: Up) -> None:
    """SRV-5: nothing of the killed one stays in the way of the next, and devices find the same broker."""
    before = up.endpoints
    up.end(signal.SIGKILL)
    following = Up(home)
    after = following.endpoints
    assert after["mqtt_port"] == before["mqtt_port"]
    assert not alive(before["pids"]["broker"])
    assert following.health()["broker"] is True
    assert following.end() == 0


def test_runner_comes_with_its_configuration(home: Path, up: Up) -> None:
    """SRV-10: it starts when training.toml appears, and ends with the server."""
    assert up.endpoints["pids"]["runner"] is None
    key = home.parent / "key.pem"
    text = f'[models.har]\ntrain = ["true"]\nkey = "{key}"\nprofiles = ["x86-64"]\n'
    (home / "training.toml").write_text(text)
    pid = eventually(lambda: up.endpoints["pids"]["runner"])
    assert alive(pid)
    assert up.end() == 0
    assert not alive(pid)
    (home / "training.toml").unlink()


def test_only_the_loopback(home: Path, tmp_path: Path) -> None:
    """SRV-7: an address that others can reach is refused before anything starts."""
    (tmp_path / "fleet.toml").write_text('name = "test"\n[api]\nhost = "0.0.0.0"\n')
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(ConfigError, match="loopback"):
            serve(tmp_path)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_work_goes_on_after_a_failure() -> None:
    """SRV-9: a turn that fails is followed by the next."""
    turns: list[int] = []
    third = threading.Event()

    def work() -> None:
        turns.append(len(turns))
        if len(turns) == 3:
            third.set()
        raise (ConflictError, ZeroDivisionError, OSError)[len(turns) % 3]("planted")

    periodic = Periodic("test", 0.001, work)
    periodic.start()
    assert third.wait(5)
    periodic.wake()
    periodic.stop()
    assert len(turns) >= 3


def test_work_that_fails_takes_no_other_along() -> None:
    """SRV-9: what shares its turn is done all the same."""
    done = threading.Event()

    def failing() -> None:
        raise FleetError("planted")

    periodic = Periodic("test", 0.001, failing, done.set)
    periodic.start()
    assert done.wait(5)
    periodic.stop()


def test_a_child_that_cannot_be_started_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SRV-6: what keeps it from being started for a moment does not keep it away for good."""
    log, pause = tmp_path / "logs" / "child.log", threading.Event()
    child = Child("test", [sys.executable, "-c", "import sys; sys.stdin.read()"], log)
    child.start()
    former = child.pid
    assert former is not None
    try:
        log.rename(tmp_path / "kept.log")
        log.mkdir()
        os.kill(former, signal.SIGKILL)
        for _ in range(500):
            if "cannot be started" in caplog.text:
                break
            pause.wait(0.02)
        log.rmdir()
        for _ in range(500):
            if child.pid not in (None, former):
                return
            pause.wait(0.02)
        pytest.fail("it was not started again")
    finally:
        child.stop()
