"""A fleet that writes folders for a device without a network, and that device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from outrider_agent.air_gap import bring
from outrider_agent.durable import Durable
from outrider_agent.paths import Paths
from outrider_agent.supervisor.state import StateFile, UpdateState
from tests.agent.supervisor.folder import write_folder
from tests.agent.supervisor.house import Agent, Artifact, Authority, Trust
from tests.agent.worker.kit import Spec, write_artifact


class Carrier:
    """A fleet that writes folders, and one enrolled device that was never on its network."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.directory, self.trust = directory, Trust()
        self.agent = Agent(directory / "home", "dev-1", authority, self.trust, port=1)
        self.paths = Paths.under(self.agent.home)
        self.seq = 0

    def artifact(self, version: str, **spec: Any) -> Artifact:
        place = self.directory / f"artifact-{version}"
        write_artifact(place, Spec(version=version, **spec))
        made = Artifact(place, version, 1)
        self.trust.release(made.path, made.encoded, 1)
        return made

    def export(self, name: str, artifact: Artifact, **changes: Any) -> Path:
        """Write a folder with an order for this device, as `outrider-fleet export` does."""
        self.seq += 1
        folder = self.directory / name
        order = replace(self.agent.order(artifact, self.seq), **changes)
        return write_folder(folder, "dev-1", self.trust.order(order), self.trust.messages(), artifact.chunks())

    def bring(self, folder: Path) -> tuple[str, list[str]]:
        """Import; what became of it, and the steps on the way."""
        steps: list[str] = []
        return bring(self.paths, folder, lambda news: steps.append(str(news["said"]))), steps

    def state(self) -> UpdateState:
        return StateFile(self.paths.update, Durable()).load()

    def committed(self) -> list[str]:
        return [path.name for path in self.paths.artifacts.iterdir()] if self.paths.artifacts.exists() else []
