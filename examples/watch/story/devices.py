"""The devices of a run: each an agent process with its own key, certificate and directory."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from examples.watch.story.fleet import Fleet
from examples.watch.story.plan import MODEL, Plan, Watch
from examples.watch.story.processes import Processes, command, run

SAMPLES_A_BATCH = 16


@dataclass
class Devices:
    """All agents of a run."""

    plan: Plan
    processes: Processes
    sampled: frozenset[int]
    """The people whose devices may send raw windows."""

    def enrol(self, fleet: Fleet, watch: Watch) -> None:
        """Enrol one device and say in its own configuration what may leave it."""
        root = self.plan.fleet / "trust" / "root.json"
        arguments = ("--server", fleet.url, "--token", fleet.token("device", watch.name), "--device", watch.name)
        run(
            command("outrider-agent", "enrol", *arguments, "--profile", watch.profile, "--trust-root", root),
            self.plan.logs / f"enrol-{watch.name}.log",
            OUTRIDER_HOME=str(self.plan.home(watch.name)),
        )
        settings = [f"[models.{MODEL}]", "[telemetry]", "flush_s = 0.3", "[supervisor]", "state_every_s = 1.0"]
        if watch.person in self.sampled:
            settings += ["[samples]", "enabled = true", f"per_batch_max = {SAMPLES_A_BATCH}"]
        with (self.plan.home(watch.name) / "etc/agent.toml").open("a") as file:
            file.write("\n" + "\n".join(settings) + "\n")

    def start(self, device: str) -> None:
        """Start one agent."""
        self.processes.start(device, command("outrider-agent", "run"), OUTRIDER_HOME=str(self.plan.home(device)))

    def update_state(self, device: str) -> dict[str, Any]:
        """The device's update.json; empty before its first order."""
        path = self.plan.home(device) / "var/update.json"
        return dict(json.loads(path.read_bytes())) if path.exists() else {}

    def stage(self, device: str) -> str:
        """Where the device's current execution stands."""
        return str((self.update_state(device).get("execution") or {}).get("stage", ""))

    def release(self, device: str) -> str:
        """The release that the device has kept."""
        return str((self.update_state(device).get("current") or {}).get("release", ""))

    def waiting(self, device: str) -> int:
        """Batches that the server has not acknowledged."""
        path = self.plan.home(device) / "var/outbox.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as outbox:
            return int(outbox.execute("SELECT count(*) FROM batch").fetchone()[0])
