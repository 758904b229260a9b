"""A trust file that is empty, cut, zeroed or gone stops updates by name; the real agent goes on answering."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from outrider_protocol import topics
from tests.agent.supervisor.house import Authority, until
from tests.agent.supervisor.world import World, new_world

DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda _: None,
    "empty": lambda _: b"",
    "cut": lambda data: data[: len(data) // 3],
    "zeroed": lambda data: bytes(len(data)),
}


@pytest.fixture(scope="module")
def world(authority: Authority) -> Iterator[World]:
    """One agent that serves 1.0, for all cases: each leaves it as it found it."""
    with new_world(authority) as made:
        made.agent.start()
        made.install("1.0")
        yield made


def refused(world: World, error: str) -> None:
    """An order for a new release is refused by this name, with a hint, and what runs answers on."""
    version = f"2.{world.last_seq}"
    artifact = world.artifact(version, seed=1)
    before = world.serving()
    seq = world.order(artifact)
    detail = world.ended(seq, "failed_unchanged").detail
    assert detail["error"] == error
    assert detail["hint"]
    assert len(world.infer(3)) == 3
    assert world.serving() == before
    world.server.publish({topics.desired(world.agent.device): b""})  # so that no later start takes it up


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_trust_file(world: World, kind: str) -> None:
    """AGT-TRF-1: damaged while the agent runs: the update is refused, inference goes on, the right file helps."""
    path = world.agent.home / "var" / "trust" / "trusted.json"
    data = path.read_bytes()
    damaged = DAMAGES[kind](data)
    path.unlink() if damaged is None else path.write_bytes(damaged)
    refused(world, "TrustDamagedError")
    assert (path.read_bytes() if path.exists() else None) == damaged, "nobody writes over what was damaged"
    path.write_bytes(data)


@pytest.mark.parametrize("kind", DAMAGES)
def test_update_json(world: World, kind: str) -> None:
    """AGT-EXE-2: damaged while the agent is off: it starts, serves what served last, and refuses every order."""
    world.agent.stop()
    path = world.agent.home / "var" / "update.json"
    data = path.read_bytes()
    damaged = DAMAGES[kind](data)
    path.unlink() if damaged is None else path.write_bytes(damaged)
    world.agent.start()
    status = until(lambda: world.status(lambda s: s["attest"] and s["connected"]), "it serves")
    assert str(path) in status["lost"]
    refused(world, "StateError")
    assert any(event.body.get("what") == "state_lost" for event in world.server.events())
    assert world.agent.stop() == 0
    assert (path.read_bytes() if path.exists() else None) == damaged
    path.write_bytes(data)
    world.agent.start()
    until(lambda: world.status(lambda s: s["attest"] and s["lost"] is None), "it serves again")


def test_the_identity(world: World) -> None:
    """AGT-TRF-1: without knowing who it is a device takes no order, and answers on."""
    path = world.agent.home / "var" / "identity" / "identity.json"
    data = path.read_bytes()
    path.write_bytes(bytes(len(data)))
    refused(world, "StateError")
    path.write_bytes(data)


def test_afterwards_all_is_well(world: World) -> None:
    """AGT-TRF-1: with its files back the device takes the next order, and the floors still count."""
    artifact = world.install("9.0", seed=9)
    seq = world.desired(artifact, seq=1)
    assert world.ended(seq, "rejected").detail["error"] in {"OrderTimeError", "OrderSequenceError"}
