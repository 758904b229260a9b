"""A release's way to a device, and through every kill on the way."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.database import rows
from tests.e2e.harness import Device, Fleet, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def rollout_state(fleet: Fleet, identifier: str) -> str:
    """The rollout's state, read from the database as an outsider would."""
    return str(rows(fleet.home / "fleet.db", "SELECT state FROM rollouts WHERE id = ?", identifier)[0][0])


def finish(fleet: Fleet, device: Device, identifier: str) -> None:
    """Feed inferences until the rollout has completed."""

    def fed() -> bool:
        if device.stage() == "probation":
            device.feed(2)
        return rollout_state(fleet, identifier) == "completed"

    try:
        eventually(fed, f"rollout {identifier} completed")
    except AssertionError as error:
        raise AssertionError(
            f"{error}\n{device.update_state()}\n{device.process.tail()}\n{fleet.process.tail()}"
        ) from error


def install(fleet: Fleet, device: Device, version: str) -> str:
    """Roll a version out to the end; the rollout's id."""
    identifier = fleet.rollout(version)
    finish(fleet, device, identifier)
    return identifier


def attested(fleet: Fleet, name: str) -> dict[str, Any]:
    """What the server knows of a device."""
    return dict(fleet.ask("device", "show", name))


def test_release_reaches_the_device(fleet: Fleet, device: Device) -> None:
    """E2E-1: the worker attests what the server ordered, and `why` says that it is done."""
    identifier = install(fleet, device, "1.0")
    current = device.update_state()["current"]
    assert current["release"] == "1.0"
    known = attested(fleet, device.name)
    assert known["attest_digest"] == current["digest"]
    assert fleet.cli("why", identifier).strip()
    assert len(set(device.feed(5))) == 5


@pytest.mark.parametrize("stage", ["downloading", "activating"])
def test_agent_killed(fleet: Fleet, device: Device, releases: dict[str, Path], stage: str) -> None:
    """E2E-2 and E2E-3: kill -9 of the agent while it downloads, and while it activates."""
    install(fleet, device, "1.0")
    fleet.publish(releases["1.1"])
    identifier = fleet.rollout("1.1")
    eventually(lambda: device.stage() == stage, f"the device is {stage}")
    device.process.kill()
    device.start()
    eventually((device.home / "run/tiny.sock").exists, "the socket is there")
    finish(fleet, device, identifier)
    state = device.update_state()
    assert state["current"]["release"] == "1.1"
    assert state["previous"]["release"] == "1.0"
    assert attested(fleet, device.name)["attest_digest"] == state["current"]["digest"]


def test_server_killed(fleet: Fleet, device: Device, releases: dict[str, Path]) -> None:
    """E2E-4 and E2E-6: kill -9 of the server in the middle; the device answers meanwhile, the rollout ends right."""
    install(fleet, device, "1.0")
    fleet.publish(releases["1.1"])
    identifier = fleet.rollout("1.1")
    eventually(lambda: device.stage() in ("downloading", "verifying", "validating", "activating"), "the order arrived")
    fleet.process.kill()
    assert len(device.feed(3)) == 3
    fleet.start()
    finish(fleet, device, identifier)
    ordered = rows(fleet.home / "fleet.db", "SELECT count(*) FROM executions WHERE rollout = ?", identifier)
    assert ordered == [(1,)]


def test_broker_away(fleet: Fleet, device: Device) -> None:
    """E2E-5: what was recorded while the broker was dead is committed once the supervisor has brought it back."""
    import os
    import signal

    install(fleet, device, "1.0")
    os.kill(fleet.endpoints["pids"]["broker"], signal.SIGKILL)
    identifiers = set(device.feed(50))
    assert len(identifiers) == 50

    def committed() -> bool:
        kept = rows(fleet.home / "fleet.db", "SELECT device, outbox_id, seq, idx FROM predictions")
        found = ["/".join(map(str, row)) for row in kept]
        assert len(found) == len(set(found))
        return identifiers <= set(found)

    eventually(committed, f"all 50 committed; outbox {json.dumps(device.update_state())[:200]}")
