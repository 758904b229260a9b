"""The fleet server of a run, through its command line and its HTTP interface."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from examples.watch.data import CLASSES
from examples.watch.errors import StageError
from examples.watch.story.plan import MODEL, ROOT, Plan
from examples.watch.story.processes import Processes, command, eventually, run

BUILD_OPTIONS = (
    *("--architecture", "examples.watch.model:WatchNet", "--classes", ",".join(CLASSES)),
    *("--embedding", "embedding", "--probabilities", "probabilities"),
)
READY_S = 40.0


@dataclass
class Fleet:
    """A server's home and what runs in it."""

    plan: Plan
    processes: Processes

    def initialise(self) -> None:
        """Keys, authority, database; the pipeline's key; the delegation of the model's releases to it."""
        home, offline, logs = self.plan.fleet, self.plan.offline, self.plan.logs
        made = ("--name", "watch", "--offline", offline, "--without-passphrase")
        run(command("outrider-fleet", "init", home, *made), logs / "init.log")
        run(command("outrider-fleet", "trust", "pipeline-key", self.plan.key), logs / "key.log")
        self.cli("trust", "delegate", MODEL, "--key", f"{self.plan.key}.pub", "--offline", offline)

    def train_with(self, *arguments: str, profiles: tuple[str, ...]) -> None:
        """Write the runner's own file: how the model is trained, built and signed. `arguments` go before --out."""
        train = ["{python}", *arguments, "--snapshot", "{snapshot}", "--out", "{out}", "--seed", str(self.plan.seed)]
        settings = {
            "train": train,
            "key": str(self.plan.key),
            "profiles": list(profiles),
            "directory": str(ROOT),
            "model": "model.pt",
            "build_options": list(BUILD_OPTIONS),
        }
        lines = ["poll_s = 0.3", "beat_s = 2.0", f"[models.{MODEL}]"]
        lines += [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        (self.plan.fleet / "training.toml").write_text("\n".join(lines) + "\n")

    def up(self) -> None:
        """Start it and wait until it answers."""
        arguments = ("--home", self.plan.fleet, "up", "--http-port", "0", "--mqtt-port", "0")
        process = self.processes.start("fleet", command("outrider-fleet", *map(str, arguments)))

        def ready() -> bool:
            if process.poll() is not None:
                raise StageError(f"the fleet server ended:\n{self.processes.tail('fleet')}")
            return (self.plan.fleet / "run/endpoints.json").exists()

        eventually(ready, f"the fleet server listens (see {self.plan.logs / 'fleet.log'})", READY_S)

    @property
    def endpoints(self) -> dict[str, Any]:
        """Addresses and process ids."""
        return dict(json.loads((self.plan.fleet / "run/endpoints.json").read_bytes()))

    @property
    def url(self) -> str:
        """The address of the web page and of the HTTP interface."""
        return str(self.endpoints["api"]).rstrip("/")

    def cli(self, *arguments: str | Path) -> str:
        """Run `outrider-fleet` on this home."""
        name = "-".join(map(str, arguments[:2])).replace("/", "_")
        return run(command("outrider-fleet", "--home", self.plan.fleet, *arguments), self.plan.logs / f"{name}.log")

    def get(self, path: str) -> Any:
        """GET below /api/v1."""
        return self._call("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        """POST below /api/v1, as the operator."""
        return self._call("POST", path, body)

    def token(self, kind: str, name: str) -> str:
        """A new token."""
        return str(self.post("/tokens", {"kind": kind, "name": name})["token"])

    def rollout(self, identifier: str) -> dict[str, Any]:
        """One rollout as the server tells it."""
        return dict(self.get(f"/rollouts/{identifier}"))

    def devices(self) -> dict[str, dict[str, Any]]:
        """Device rows by name."""
        rows = self.get("/devices")
        rows = rows["items"] if isinstance(rows, dict) and "items" in rows else rows
        return {str(row["device"]): dict(row) for row in rows}

    def kill_broker(self, outage_s: float) -> tuple[int, int]:
        """Kill -9 the broker for some seconds, as often as the server starts it again; (from, until) in ms."""
        pid_file, from_ms = self.plan.fleet / "broker" / "nats.pid", now_ms()
        until, pid = time.monotonic() + outage_s, int(self.endpoints["pids"]["broker"])
        while time.monotonic() < until:
            with suppress(ProcessLookupError):  # it has not been started again yet
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
            pid = int(pid_file.read_text())
        return from_ms, now_ms()

    def _call(self, method: str, path: str, body: object) -> Any:
        token = (self.plan.fleet / "keys/operator.token").read_text("ascii").strip()
        answer = httpx.request(
            method,
            f"{self.url}/api/v1{path}",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=30.0,
            trust_env=False,
        )
        if answer.is_error:
            raise StageError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()


def now_ms() -> int:
    """The clock, in ms UTC."""
    return time.time_ns() // 1_000_000
