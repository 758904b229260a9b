"""A device that is ordered to erase itself, as a real process. Rules: docs/spec/enrolment.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from outrider_agent.durable import Durable, Operation
from outrider_agent.paths import Paths
from outrider_agent.supervisor import removal
from outrider_protocol import signing, topics
from tests.agent.supervisor.house import until
from tests.agent.supervisor.world import World


def left(world: World) -> list[str]:
    """What is still there under `var`."""
    return sorted(path.name for path in (world.agent.home / "var").iterdir())


def exit_status(world: World) -> int:
    assert world.agent.process is not None
    return world.agent.process.wait(30)


def test_a_device_erases_its_models_and_keys(world: World) -> None:
    """ERA-6: after a verified order it reports `removed`, ends with status 0, keeps no key, model, record or trust;
    agent.toml stays, and the broker is left without its presence.
    """
    world.agent.start()
    artifact = world.install("1.0")
    seq = world.desired(artifact, action="remove", parameters={})
    world.ended(seq, "removed")
    assert exit_status(world) == 0
    assert left(world) == ["agent.lock"]
    assert (world.agent.home / "etc" / "agent.toml").exists()
    assert not list((world.agent.home / "run").glob("*.sock"))
    until(lambda: (topics.presence("dev-1"), b"") in world.server.messages, "its presence was deleted")


def test_it_goes_on_after_kill(world: World) -> None:
    """ERA-7: killed in the middle it begins again where it was, and cannot be talked out of it by another order."""
    world.agent.start()
    artifact = world.install("1.0")
    world.server.acking = False
    world.desired(artifact, action="remove", parameters={})
    until((world.agent.home / "var" / "removal.json").exists, "the order is durable")
    world.agent.kill()
    world.desired(artifact)
    world.server.acking = True
    world.agent.start()
    assert exit_status(world) == 0
    assert left(world) == ["agent.lock"]


def test_a_device_may_forbid_it(world: World) -> None:
    """ERA-8: with `erasable = false` the order is refused aloud, and what serves goes on serving."""
    config = world.agent.home / "etc" / "agent.toml"
    config.write_text(config.read_text().replace("[device]\n", "[device]\nerasable = false\n"))
    world.agent.start()
    artifact = world.install("1.0")
    world.desired(artifact, action="remove", parameters={})
    until(lambda: "not obeyed" in world.agent.log(), "a refusal")
    assert world.serving() == artifact.digest
    assert (world.agent.home / "var" / "identity" / "device.key").exists()


def test_a_forged_order_erases_nothing(world: World) -> None:
    """ERA-6: an order to remove passes the checks of any other: another signature, device or sequence is refused."""
    world.agent.start()
    artifact = world.install("1.0")
    order = replace(world.agent.order(artifact, 7), action="remove", parameters={})
    foreign = world.trust.order(replace(order, aud=replace(order.aud, device="dev-2")))
    unsigned = signing.sign_order(order, [world.trust.keys["pipeline"]])
    replayed = world.trust.order(replace(order, seq=1))
    for number, envelope in enumerate((foreign, unsigned, replayed)):
        before = len(world.server.reports())
        world.server.publish({topics.desired("dev-1"): envelope})
        until(lambda before=before: len(world.server.reports()) > before, f"refusal {number}")
        assert world.server.reports()[-1].state == "rejected"
    assert world.serving() == artifact.digest


class CutError(Exception):
    """The power goes."""


@pytest.mark.parametrize("steps", range(0, 40, 3))
def test_erasing_can_be_interrupted_anywhere(tmp_path: Path, steps: int) -> None:
    """ERA-7: whichever step was the last, the next try erases the rest; the order itself is the last to go."""
    paths = Paths.under(tmp_path)
    for directory in (paths.identity, paths.artifact("ab"), paths.downloads, paths.trust, paths.var / "drift"):
        directory.mkdir(parents=True)
        (directory / "device.key").write_text("secret")
    for path in (paths.outbox, paths.update, paths.lock, paths.removal):
        path.write_text("x")
    taken: list[Operation] = []

    def cut(operation: Operation) -> None:
        taken.append(operation)
        if len(taken) > steps:
            raise CutError

    try:
        removal.erase(paths, Durable(cut))
    except CutError:
        assert paths.removal.exists()
    removal.erase(paths, Durable())
    assert [path.name for path in paths.var.iterdir()] == ["agent.lock"]
