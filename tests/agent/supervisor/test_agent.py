"""The agent as it runs: real processes, a real broker, real signatures."""

from __future__ import annotations

from collections.abc import Callable

from outrider_protocol import topics
from tests.agent.supervisor.conftest import World
from tests.agent.supervisor.house import until

Infer = Callable[[int], list[str]]


def install(world: World, infer: Infer, version: str = "1.0", seq: int = 1) -> str:
    """Order a release, answer requests until it has succeeded; its digest."""
    artifact = world.artifact(version, counter=1)
    world.publish(artifact)
    order = world.trust.order(world.agent.order(artifact, seq))
    world.server.publish({topics.desired(world.agent.device): order})
    until(lambda: world.server.report(seq, "probation"), "probation")
    infer(3)
    until(lambda: world.server.report(seq, "succeeded"), "succeeded")
    return artifact.digest


def test_an_order_becomes_a_serving_release(world: World, infer: Infer) -> None:
    """AGT-EXE-1: an order ends as succeeded only after the worker attested it and answered real inferences."""
    world.agent.start()
    digest = install(world, infer)
    way = ["notified", "downloading", "verifying", "staged", "validating", "validating", "activating", "probation"]
    assert world.server.states(1) == [*way, "succeeded"]
    said = world.server.report(1, "succeeded")
    assert said is not None
    assert said.detail["attest"]["digest"] == digest
    assert said.detail["attest"]["answered"] >= 3
    assert world.agent.stop() == 0
