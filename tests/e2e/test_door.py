"""Enrolment over HTTPS, from a device that knows a token and a digest. Rules: docs/spec/enrolment.md."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from outrider_agent.clock import Now
from outrider_agent.durable import Durable
from outrider_agent.renewal import Keeper, over_http
from tests.e2e.harness import Fleet, command, running

pytestmark = pytest.mark.e2e


@pytest.fixture
def door(tmp_path: Path, founded: Path) -> Iterator[tuple[Fleet, str]]:
    """A fleet server with an HTTPS door, and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fleet = Fleet(tmp_path, like=founded)
    with (fleet.home / "fleet.toml").open("a") as config:
        config.write(f'[enrolment]\nport = {port}\nnames = ["fleet.example"]\n')
    with running(fleet.process):
        fleet.start()
        yield fleet, f"https://127.0.0.1:{port}"


def enrol(server: str, home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    names = ("--device", home.name, "--profile", "x86-64")
    env = {**os.environ, "OUTRIDER_HOME": str(home)}
    arguments = command("outrider-agent", "enrol", "--server", server, *names, *options)
    return subprocess.run(arguments, env=env, capture_output=True, text=True, check=False, timeout=60)


def test_enrolment_over_https_is_pinned(door: tuple[Fleet, str], tmp_path: Path) -> None:
    """ENR-6, ENR-1 and REN-5: token and digest are enough; another fleet's token never leaves the device; a used one is
    refused, and so is a root that is not the one given. The door renews, too, whatever the device's clock says.
    """
    fleet, server = door
    root = hashlib.sha256((fleet.home / "trust" / "root.json").read_bytes()).hexdigest()
    token = fleet.cli("token", "create", "--kind", "device").strip()
    wrong = enrol(server, tmp_path / "dev-0", "--token", token, "--trust-root", f"sha256:{'0' * 64}")
    assert (wrong.returncode, (tmp_path / "dev-0").exists()) == (3, False)
    token = fleet.cli("token", "create", "--kind", "device").strip()
    strange = f"{token.partition('.')[0]}.{'0' * 64}"
    refused = enrol(server, tmp_path / "dev-1", "--token", strange, "--trust-root", f"sha256:{root}")
    assert "does not show the CA" in refused.stderr
    done = enrol(server, tmp_path / "dev-1", "--token", token, "--trust-root", f"sha256:{root}")
    assert done.returncode == 0, done.stderr
    keeper, ca = Keeper(tmp_path / "dev-1/var/identity", Durable()), tmp_path / "dev-1/var/identity/ca.pem"
    renewed = over_http(server, ca, keeper.request(), Now(0))
    assert renewed.certificate_pem == (tmp_path / "dev-1/var/identity/device.pem").read_text()
    again = enrol(server, tmp_path / "dev-2", "--token", token, "--trust-root", f"sha256:{root}")
    assert again.returncode == 3
    assert "used before" in again.stderr


def test_nothing_else_is_behind_the_door(door: tuple[Fleet, str]) -> None:
    """ENR-7: no page, no list, no token, and no large body."""
    fleet, server = door
    context = ssl.create_default_context(cafile=str(fleet.home / "ca" / "root.pem"))
    with httpx.Client(base_url=server, verify=context, trust_env=False) as client:
        for path in ("/", "/api/v1/devices", "/api/v1/health", "/api/v1/trust/root.json", "/api/v1/openapi.json"):
            assert client.get(path).status_code == 404, path
        assert client.post("/api/v1/tokens", json={"kind": "operator"}).status_code == 404
        assert client.post("/api/v1/enrol", content=b"x" * 70_000).status_code == 413
        assert client.post("/api/v1/enrol", content=b"nonsense").status_code == 400
