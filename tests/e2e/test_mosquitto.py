"""A whole fleet on an external mosquitto: rolled out over it, forgotten, revoked at it. Rules: docs/spec/broker.md."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.harness import MOSQUITTO, Device, Fleet, Process, eventually, running

pytestmark = pytest.mark.e2e


@dataclass
class Site:
    """A server and its external broker."""

    fleet: Fleet
    broker: Process
    directory: Path

    def accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    @property
    def port(self) -> int:
        return int(self.fleet.endpoints["mqtt_port"])


@pytest.fixture
def site(tmp_path: Path, founded: Path, releases: dict[str, Path]) -> Iterator[Site]:
    """A fleet server that holds release 1.0, on a mosquitto with the files that it wrote."""
    directory = tmp_path / "broker"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fleet = Fleet(tmp_path, "--broker", str(directory), like=founded)
    fleet.cli("broker-config", "mosquitto", str(directory), "--port", str(port))
    broker = Process([str(MOSQUITTO), "-c", str(directory / "mosquitto.conf")], tmp_path / "mosquitto.log")
    with running(fleet.process, broker):
        broker.start()
        fleet.start()
        fleet.publish(releases["1.0"])
        yield Site(fleet, broker, directory)


def _runs(device: Device, version: str) -> bool:
    current = device.update_state().get("current") or {}
    return bool(current.get("release") == version)


def test_a_fleet_on_mosquitto(site: Site, tmp_path: Path) -> None:
    """BRK-27: enrolment, link, orders, trust, chunks, telemetry and acks over a broker that is not ours.

    BRK-28: after kill -9 and the loss of its store, a device that was never reached finds order, trust and chunks.
    BRK-25: revoking ends the agent's session within 2 s and leaves the other agent connected.
    """
    first, second = (Device(tmp_path, site.fleet, name) for name in ("dev-1", "dev-2"))
    with running(first.process, second.process):
        first.start()
        eventually(lambda: site.fleet.ask("devices")[0]["online"], "the first device online")
        site.fleet.rollout("1.0")
        eventually(lambda: first.stage() == "probation", "probation")
        first.feed(6)
        eventually(lambda: _runs(first, "1.0"), "the first device on 1.0")
        site.broker.kill()
        shutil.rmtree(site.directory / "store")
        (site.directory / "store").mkdir()
        site.broker.start()
        eventually(site.accepts, "mosquitto back")
        second.start()
        eventually(lambda: second.stage() == "probation", "the second device, from what was published again")
        second.feed(6)
        eventually(lambda: _runs(second, "1.0"), "the second device on 1.0")
        eventually(lambda: all(row["online"] for row in site.fleet.ask("devices")), "both online")
        began = time.monotonic()
        site.fleet.cli("device", "revoke", "dev-1")
        took_s = time.monotonic() - began
        eventually(lambda: not _connected(first), "the revoked agent's session ended", 2)
        print(f"revoked after {took_s:.2f} s, the command's start included")
        assert _connected(second)


def _connected(device: Device) -> bool:
    from outrider_agent.status import ask

    return bool(ask(device.home / "run" / "supervisor.sock")["connected"])
