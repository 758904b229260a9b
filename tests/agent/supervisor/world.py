"""A broker, a server, a trust and an agent in one: what an end-to-end test of the agent needs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from outrider_agent.client import Client
from outrider_agent.errors import UnreachableError
from outrider_agent.status import ask
from outrider_protocol import topics
from outrider_protocol.messages import ExecutionReport
from tests.agent.supervisor.house import Agent, Artifact, Authority, Broker, Server, Trust, until
from tests.agent.worker.kit import Spec, windows, write_artifact


@dataclass
class World:
    """Everything that one end-to-end test of the agent needs."""

    broker: Broker
    server: Server
    trust: Trust
    agent: Agent
    directory: Path
    last_seq: int = 0
    offered: list[dict[str, bytes]] = field(default_factory=list)
    """Every trust bundle that was published, the newest last."""

    def artifact(self, version: str, seed: int = 0, counter: int = 1, **spec: object) -> Artifact:
        """Write and list one; `publish` sends it."""
        directory = self.directory / f"artifact-{version}"
        write_artifact(directory, Spec(seed=seed, version=version, **spec))  # type: ignore[arg-type]  # kit's own fields
        artifact = Artifact(directory, version, counter)
        self.trust.release(artifact.path, artifact.encoded, counter)
        return artifact

    def next_seq(self) -> int:
        """The sequence of the next order."""
        self.last_seq += 1
        return self.last_seq

    def order(self, artifact: Artifact, **changes: Any) -> int:
        """Publish an artifact and order it; the order's sequence."""
        self.publish(artifact)
        return self.desired(artifact, **changes)

    def desired(self, artifact: Artifact, **changes: Any) -> int:
        """Order what is published; the order's sequence."""
        seq = changes.pop("seq", None) or self.next_seq()
        signed = self.trust.order(replace(self.agent.order(artifact, seq), **changes))
        self.server.publish({topics.desired(self.agent.device): signed})
        return seq

    def ended(self, seq: int, state: str, epoch: int = 1) -> ExecutionReport:
        """Wait until an execution has reported this state."""
        found: ExecutionReport = until(lambda: self.server.report(seq, state, epoch), f"execution {seq} {state}")
        return found

    def infer(self, n: int) -> list[str]:
        """Send windows one by one; their prediction ids."""
        with Client(self.agent.socket) as client:
            return [str(client.infer({"x": row[None]}).prediction_ids[0]) for row in windows(n)]

    def infer_until(self, seq: int, state: str) -> ExecutionReport:
        """Send windows until an execution has reported this state."""
        with Client(self.agent.socket) as client:
            while (found := self.server.report(seq, state)) is None:
                client.infer({"x": windows(1)})
        return found

    def install(self, version: str, seed: int = 0) -> Artifact:
        """Order a release, answer requests until it has succeeded."""
        artifact = self.artifact(version, seed)
        seq = self.order(artifact)
        self.ended(seq, "probation")
        self.infer(3)
        self.ended(seq, "succeeded")
        return artifact

    def status(self, accept: Callable[[dict[str, Any]], Any] = lambda _: True) -> dict[str, Any] | None:
        """The agent's own status once it answers and `accept` likes it."""
        try:
            found = ask(self.agent.home / "run" / "supervisor.sock")
        except UnreachableError:
            return None
        return found if accept(found) else None

    def serving(self) -> str:
        """The digest that serves."""
        found = until(lambda: self.status(lambda s: s["attest"]), "a serving worker")
        return str(found["digest"])

    def publish(self, *artifacts: Artifact) -> None:
        for artifact in artifacts:
            self.server.publish(artifact.chunks())
        self.offered.append(self.trust.messages())
        self.server.publish(self.offered[-1])


@contextmanager
def new_world(authority: Authority, trust: Trust | None = None) -> Iterator[World]:
    """A broker, a trust, a server and an enrolled agent that was not started."""
    with tempfile.TemporaryDirectory(prefix="ora") as name:
        directory = Path(name)
        broker = Broker(directory / "broker", authority)
        broker.start()
        server = Server(authority, broker.port)
        trust = trust or Trust()
        agent = Agent(directory / "home", "dev-1", authority, trust, broker.port)
        yield World(broker, server, trust, agent, directory)
        if agent.process is not None and agent.process.poll() is None:
            agent.stop()
        server.close()
        broker.kill()
        if agent.process is not None:
            print(agent.log())
