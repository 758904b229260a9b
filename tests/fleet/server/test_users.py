"""Signer, server and runner as three users: what each can reach, shown by the system itself. Rules: docs/spec/trust.md.

1. Only root can start processes as other users, and those need an interpreter that they may run: where either is
   missing, the tests skip with one line.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fleet.server.test_up import eventually

SIGNER, SERVER, RUNNER, STRANGER = 41_001, 41_002, 41_003, 41_004
MAIN = "from outrider_fleet.cli import main; main()"


def environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "HOME": "/nonexistent"}


def run_as(uid: int, *args: str) -> subprocess.CompletedProcess[str]:
    how: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": [], "env": environment(), "cwd": "/"}
    return subprocess.run(args, capture_output=True, text=True, timeout=60, check=False, **how)


def interpreter() -> str | None:
    """A Python of this version that other users may run, and that finds all packages."""
    for name in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if name is None:
            continue
        probe = f"import sys, outrider_fleet.cli; assert sys.version_info[:2] == {sys.version_info[:2]}"
        try:
            if run_as(STRANGER, name, "-c", probe).returncode == 0:
                return name
        except PermissionError:
            continue
    return None


class Town:
    """Three directories of three users, and what runs as them."""

    def __init__(self, directory: Path, python: str) -> None:
        self.directory, self.python = directory, python
        directory.chmod(0o755)
        owners = {"signer": SIGNER, "offline": SIGNER, "server": SERVER, "ca": SERVER, "runner": RUNNER}
        for name, uid in owners.items():
            (directory / name).mkdir(mode=0o700)
            os.chown(directory / name, uid, uid)
        self.signer, self.server, self.runner = (directory / name for name in ("signer", "server", "runner"))

    def python_as(self, uid: int, *args: str) -> subprocess.CompletedProcess[str]:
        return run_as(uid, self.python, *args)

    def command(self, uid: int, *args: str) -> str:
        done = self.python_as(uid, "-c", MAIN, *args)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, uid: int, log: str, *args: str) -> subprocess.Popen[bytes]:
        with (self.directory / log).open("ab") as output:
            return subprocess.Popen(
                [self.python, "-c", MAIN, *args], user=uid, group=uid, extra_groups=[], env=environment(), cwd="/",
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    @property
    def endpoints(self) -> dict[str, Any]:
        return dict(json.loads((self.server / "run" / "endpoints.json").read_text()))

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        token = (self.server / "keys" / "operator.token").read_text()
        url = f"{self.endpoints['api']}/api/v1{path}"
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.request(method, url, json=body, headers=headers, trust_env=False, timeout=20)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    if os.getuid() != 0:
        pytest.skip("separate users are not tested: only root can start processes as other users")
    python = interpreter()
    if python is None:
        pytest.skip("separate users are not tested: no interpreter that another user may run")
    with ExitStack() as stack:
        made = Town(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="users-"))), python)
        offline = ("--offline", str(made.directory / "offline"), "--without-passphrase")
        made.command(SIGNER, "--home", str(made.signer), "trust", "init", "--name", "three", *offline)
        made.process = made.start(SIGNER, "signer.log", "--home", str(made.signer), "signer", "--client", str(SERVER))
        stack.callback(end, made.process)
        eventually((made.signer / "run" / "signer.sock").exists)
        ca = ("--offline", str(made.directory / "ca"), "--without-passphrase")
        made.command(SERVER, "init", str(made.server), "--signer-home", str(made.signer), *ca)
        ports = ("--http-port", "0", "--mqtt-port", "0", "--no-runner")
        stack.callback(end, made.start(SERVER, "server.log", "--home", str(made.server), "up", *ports))
        eventually((made.server / "run" / "endpoints.json").exists, 60)
        yield made


_TRY = """
import sys
for path in sys.argv[1:]:
    try:
        open(path, "rb").read(1)
        print("read", path)
    except OSError as error:
        print(type(error).__name__, path)
"""


def tried(town: Town, uid: int, *paths: Path) -> set[str]:
    """What happens when a user opens files: `read`, or the error's name."""
    said = town.python_as(uid, "-c", _TRY, *map(str, paths)).stdout.split("\n")
    return {line.split(" ")[0] for line in said if line}


def test_the_server_works_without_the_keys(town: Town) -> None:
    """SGN-46: a server whose signer is another user's signs trust and seals its log over the socket."""
    assert town.ask("POST", "/trust/refresh").status_code == 200
    assert town.ask("GET", "/health").json()["signer"] is True
    assert town.ask("GET", "/health").json()["fleet"] == "three"
    eventually(lambda: town.ask("GET", "/audit/head").status_code == 200)
    assert town.endpoints["pids"]["signer"] is None
    assert not list(town.server.rglob("director*"))


def test_the_log_is_verified_on_the_servers_home(town: Town) -> None:
    """AUD-6: the public metadata are the signer's, where fleet.toml names its home."""
    eventually(lambda: town.ask("GET", "/audit/head").status_code == 200)
    assert town.command(SERVER, "--home", str(town.server), "audit", "verify").endswith("whole\n")


def test_the_server_cannot_read_the_keys(town: Town) -> None:
    """SGN-46: the server's user opens no key and no log of the signer, nor its memory; public metadata it does."""
    keys = sorted((town.signer / "keys").iterdir())
    assert [path.name for path in keys] == ["audit.pem", "director.pem", "snapshot.pem", "timestamp.pem"]
    logs = [town.signer / "logs" / "signatures.jsonl"]
    memory = [Path(f"/proc/{town.process.pid}/mem"), Path(f"/proc/{town.process.pid}/environ")]
    offline = [town.directory / "offline" / name for name in ("root-1.pem", "targets.pem")]
    for uid in (SERVER, RUNNER, STRANGER):
        assert tried(town, uid, *keys, *logs, *memory, *offline) == {"PermissionError"}
    assert tried(town, SERVER, town.signer / "trust" / "root.json") == {"read"}
    for path in (*keys, *logs):
        assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o600, SIGNER)
    assert town.signer.stat().st_mode & 0o777 == 0o711


_CONNECT = """
import sys
from pathlib import Path
from outrider_fleet.signing.client import SignerClient
from outrider_fleet.signing.errors import SignerError
try:
    print(SignerClient(Path(sys.argv[1])).audit_head().seq >= 0)
except SignerError as error:
    print("SignerError", error)
"""


def test_who_is_answered(town: Town) -> None:
    """SGN-46: the signer answers its own user and the one it was started for; the kernel says who it is."""
    socket = str(town.signer / "run" / "signer.sock")
    said = {uid: town.python_as(uid, "-c", _CONNECT, socket).stdout for uid in (SIGNER, SERVER, RUNNER, STRANGER)}
    assert said[SIGNER].strip() == said[SERVER].strip() == "True"
    assert said[RUNNER].startswith("SignerError")
    assert said[STRANGER].startswith("SignerError")


def test_the_runner_is_a_third(town: Town) -> None:
    """SGN-46: the runner has its own user, key and token; it asks over HTTP and reads nothing of the server's home."""
    key, token = town.runner / "har.pem", town.runner / "runner.token"
    town.command(RUNNER, "trust", "pipeline-key", str(key))
    token.write_text(str(town.ask("POST", "/tokens", {"kind": "runner", "name": "third"}).json()["token"]))
    os.chown(token, RUNNER, RUNNER)
    token.chmod(0o600)
    training = '[models.har]\ntrain = ["true"]\nkey = "har.pem"\nprofiles = ["x86-64"]\n'
    (town.runner / "training.toml").write_text(training)
    options = ("--api", str(town.endpoints["api"]), "--token-file", str(token), "--home", str(town.runner), "--once")
    done = town.python_as(RUNNER, "-m", "outrider_fleet.training", *options)
    assert done.returncode == 0, done.stderr
    secrets = [town.server / "keys" / "operator.token", town.server / "ca" / "issuer.key", town.server / "fleet.db"]
    assert tried(town, RUNNER, *secrets) == {"PermissionError"}
    assert tried(town, SERVER, key, token) == {"PermissionError"}
