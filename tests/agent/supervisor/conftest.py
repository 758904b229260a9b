"""A broker a module, a trust and an agent a test."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.agent.supervisor.house import Agent, Artifact, Authority, Broker, Server, Trust
from tests.agent.worker.kit import Spec, write_artifact


@dataclass
class World:
    """Everything that one end-to-end test of the agent needs."""

    broker: Broker
    server: Server
    trust: Trust
    agent: Agent
    directory: Path

    def artifact(self, version: str, seed: int = 0, counter: int = 1, **spec: object) -> Artifact:
        """Write and list one; `publish` sends it."""
        directory = self.directory / f"artifact-{version}"
        write_artifact(directory, Spec(seed=seed, version=version, **spec))  # type: ignore[arg-type]  # kit's own fields
        artifact = Artifact(directory, version, counter)
        self.trust.release(artifact.path, artifact.encoded, counter)
        return artifact

    def publish(self, *artifacts: Artifact) -> None:
        for artifact in artifacts:
            self.server.publish(artifact.chunks())
        self.server.publish(self.trust.messages())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca") / "ca")


@pytest.fixture
def world(authority: Authority, request: pytest.FixtureRequest) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ora") as name:
        directory = Path(name)
        broker = Broker(directory / "broker", authority)
        broker.start()
        server = Server(authority, broker.port)
        trust = Trust()
        device = "dev-1"
        agent = Agent(directory / "home", device, authority, trust, broker.port)
        yield World(broker, server, trust, agent, directory)
        if agent.process is not None and agent.process.poll() is None:
            agent.stop()
        server.close()
        broker.kill()
        if agent.process is not None:
            print(agent.log())


@pytest.fixture
def infer(world: World) -> Iterator[Callable[[int], list[str]]]:
    """Send windows one by one; their prediction ids."""
    from outrider_agent.client import Client
    from tests.agent.worker.kit import windows

    with Client(world.agent.socket) as client:

        def send(n: int) -> list[str]:
            found = []
            for row in windows(n):
                found += [str(item) for item in client.infer({"x": row[None]}).prediction_ids]
            return found

        yield send
