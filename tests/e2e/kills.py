"""Randomised kill -9 of agents, their children and the server while rollouts run: what must never happen.

1. A **brick**: a device that does not answer inferences again within `BACK_S` after it was started again.
2. A **lost floor**: `update.json` or the trusted metadata of a device go back behind what was seen there before.
3. A **false success**: the server calls an execution succeeded whose digest the device's worker does not attest; or the
   device's last one, and the device does not run that digest and answer with it when all is done. (An aborted rollout
   orders devices that had succeeded back to what they ran before.)

`python -m tests.e2e.kills --kills 1000 --seed 0` prints the figures (docs/benchmarks/reliability.md); it ends with
status 1 where one of the three was seen.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from outrider_agent.client import Client
from outrider_agent.errors import AgentError
from tests.e2e.harness import Device, Fleet, build, eventually, running

BACK_S: Final = 60.0
ROLLOUT_S: Final = 240.0
PAUSE_S: Final = (0.02, 0.9)
SERVER_SHARE: Final = 0.06
CHILD_SHARE: Final = 0.35
ENDS: Final = {"succeeded", "already_installed"}
VERSIONS: Final = ("1.0", "1.1", "1.2", "1.3", "1.4", "1.5")  # more than a device keeps
PADDING: Final = 30_000  # 2 MB of weights: a download takes long enough to be hit


@dataclass
class Tally:
    """What was done and what was seen."""

    kills: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    rollouts: int = 0
    restored: int = 0
    successes: int = 0
    answers: int = 0
    bricks: list[str] = field(default_factory=list)
    lost_floors: list[str] = field(default_factory=list)
    false_successes: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All kills."""
        return sum(self.kills.values())

    @property
    def harm(self) -> list[str]:
        """Everything that must not be."""
        return [*self.bricks, *self.lost_floors, *self.false_successes]


class Feeder(threading.Thread):
    """Sends inferences to a device all the time and remembers which digest answered last, and when."""

    def __init__(self, device: Device) -> None:
        super().__init__(daemon=True)
        self._device, self._ended = device, threading.Event()
        self.answers, self.answered_s, self.digest = 0, 0.0, ""

    def run(self) -> None:
        """Until `stop`."""
        x = np.random.default_rng(0).normal(size=(1, 8)).astype(np.float32)
        while not self._ended.is_set():
            with suppress(AgentError, OSError), Client(self._device.home / "run/tiny.sock", timeout_s=10) as client:
                while not self._ended.wait(0.02):
                    self.digest = client.infer({"x": x}).digest
                    self.answers, self.answered_s = self.answers + 1, time.monotonic()
            self._ended.wait(0.02)

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join(15)


class Watched:
    """A device, its feeder, and the highest floors that were seen on its disk."""

    def __init__(self, device: Device) -> None:
        self.device, self.feeder = device, Feeder(device)
        self.floors: tuple[int, int, int] = (0, 0, 0)
        self.metadata: dict[str, int] = {}

    def lost(self) -> list[str]:
        """What went back since the last look; the device may be dead or alive."""
        found = []
        read = self.device.update_state().get("floors", {})
        floors = tuple(int(read.get(name, 0)) for name in ("epoch", "seq", "time_ms"))
        if floors[:2] < self.floors[:2] or floors[2] < self.floors[2]:
            found.append(f"{self.device.name}: floors {floors} after {self.floors}")
        self.floors = floors
        for name, version in self._versions().items():
            if version < self.metadata.get(name, 0):
                found.append(f"{self.device.name}: {name} v{version} after v{self.metadata[name]}")
            self.metadata[name] = version
        missing = set(self.metadata) - set(self._versions())
        return found + [f"{self.device.name}: {name} is gone" for name in sorted(missing)]

    def _versions(self) -> dict[str, int]:
        path = self.device.home / "var/trust/trusted.json"
        if not path.exists():
            return {}
        stored = json.loads(path.read_bytes())
        return {
            name: int(json.loads(text)["signed"]["version"])
            for name, text in stored.items()
            if name.endswith(".json") and "/" not in name
        }

    def back(self, since_s: float) -> bool:
        """Whether it has answered since then."""
        return self.feeder.answered_s > since_s


class Trial:
    """One fleet with devices, and the hand that kills."""

    def __init__(self, directory: Path, seed: int, devices: int) -> None:
        self.rng, self.tally = random.Random(seed), Tally()
        layouts = [build(directory, version, n, PADDING) for n, version in enumerate(VERSIONS, start=1)]
        self.fleet = Fleet(directory)
        self.fleet.start()
        for layout in layouts:
            self.fleet.publish(layout)
        self.watched = [Watched(Device(directory, self.fleet, f"dev-{n}")) for n in range(devices)]
        self.version, self.rollout = "", ""

    def run(self, kills: int, deadline_s: float) -> Tally:
        """Kill until there were `kills`, or until the clock says `deadline_s`; then let everything settle."""
        with running(self.fleet.process, *(item.device.process for item in self.watched)):
            for item in self.watched:
                item.device.start()
                item.feeder.start()
            try:
                self._next_rollout()
                self._settle()
                while self.tally.total < kills and time.monotonic() < deadline_s:
                    self._next_rollout()
                    self._kill_while_it_runs(kills, deadline_s)
                    self._settle()
            finally:
                self.tally.answers = sum(item.feeder.answers for item in self.watched)
                for item in self.watched:
                    item.feeder.stop()
        return self.tally

    def _next_rollout(self) -> None:
        self.version = self.rng.choice([name for name in VERSIONS if name != self.version])
        self.rollout = self.fleet.rollout(self.version)
        self.tally.rollouts += 1

    def _kill_while_it_runs(self, kills: int, deadline_s: float) -> None:
        """Until the rollout has ended, which it may long have done when nobody was hit."""
        while not self._ended() and self.tally.total < kills and time.monotonic() < deadline_s:
            time.sleep(self.rng.uniform(*PAUSE_S))  # the moment of a kill is the chance that is tried here
            if self.rng.random() < SERVER_SHARE:
                self._kill_server()
            else:
                self._kill_on(self.rng.choice(self.watched))

    def _kill_server(self) -> None:
        self.fleet.process.kill()
        self.tally.kills["server"] += 1
        self.fleet.start()

    def _kill_on(self, item: Watched) -> None:
        process = item.device.process.popen
        assert process is not None
        self.tally.stages[item.device.stage() or "idle"] += 1
        children = _children(process.pid) if self.rng.random() < CHILD_SHARE else []
        if children:
            victim = self.rng.choice(children)
            with suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)
            self.tally.kills[_role(victim)] += 1
        else:
            item.device.process.kill()
            self.tally.kills["agent"] += 1
            self.tally.lost_floors += item.lost()
            item.device.start()

    def _ended(self) -> bool:
        rows = self._executions()
        return bool(rows) and all(row["ended_ms"] is not None for row in rows)

    def _executions(self) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(f"file:{self.fleet.home / 'fleet.db'}?mode=ro", uri=True, timeout=30)) as database:
            database.row_factory = sqlite3.Row
            return [
                dict(row) for row in database.execute("SELECT * FROM executions WHERE rollout = ?", (self.rollout,))
            ]

    def _settle(self) -> None:
        """Everybody is left alone: every device answers, the rollout ends, and what the server says is so."""
        quiet_s = time.monotonic()
        for item in self.watched:
            self._expect(
                lambda item=item: item.back(quiet_s), BACK_S, self.tally.bricks, f"{item.device.name} is silent"
            )
        self._expect(self._ended, ROLLOUT_S, self.tally.bricks, f"rollout of {self.version} does not end")
        for item in self.watched:
            self.tally.lost_floors += item.lost()
        self._check_successes()

    def _expect(self, look: Callable[[], bool], timeout_s: float, found: list[str], what: str) -> None:
        try:
            eventually(look, what, timeout_s)
        except AssertionError:
            found.append(f"{what} ({self._executions()})")

    def _check_successes(self) -> None:
        by_name = {item.device.name: item for item in self.watched}
        rows = self._executions()
        ordered = [row for row in rows if row["seq"] is not None]
        last = {row["device"]: row["seq"] for row in sorted(ordered, key=lambda row: (row["epoch"], row["seq"]))}
        self.tally.restored += any(row["purpose"] == "restore" for row in rows)
        for row in rows:
            if row["state"] not in ENDS:
                continue
            self.tally.successes += 1
            item, digest = by_name[row["device"]], row["digest"]
            current = (item.device.update_state().get("current") or {}).get("digest")
            if row["state"] == "succeeded" and row["attest_digest"] != digest:
                self.tally.false_successes.append(
                    f"{row['device']}: attested {row['attest_digest']}, succeeded {digest}"
                )
            if row["seq"] == last[row["device"]] and (current != digest or not self._answers_as(item, digest)):
                said = f"{row['state']} {row['version']} {digest[7:15]} (epoch {row['epoch']}, seq {row['seq']})"
                runs = f"runs {current}, answers {item.feeder.digest}"
                self.tally.false_successes.append(f"{row['device']}: {said}; {runs}; {item.device.update_state()}")

    def _answers_as(self, item: Watched, digest: str) -> bool:
        try:
            return bool(eventually(lambda: item.feeder.digest == digest, "the new digest answers", 20))
        except AssertionError:
            return False


def _children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def _role(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        words = " ".join(process.cmdline())
        return next((name for name in ("worker", "update") if f"outrider_agent.{name}" in words), "child")
    return "child"


def trial(directory: Path, *, kills: int, seed: int = 0, devices: int = 4, limit_s: float = 3600.0) -> Tally:
    """Run one trial under `directory`."""
    return Trial(directory, seed, devices).run(kills, time.monotonic() + limit_s)


def table(tally: Tally, seed: int, took_s: float) -> str:
    """The figures as a page shows them."""
    who = ", ".join(f"{name} {n}" for name, n in sorted(tally.kills.items()))
    when = ", ".join(f"{name} {n}" for name, n in sorted(tally.stages.items()))
    rows = [
        ("kill -9", f"{tally.total}", who),
        ("device's stage at the kill", "", when),
        ("rollouts", f"{tally.rollouts}", f"{tally.restored} aborted and taken back"),
        ("executions that succeeded", f"{tally.successes}", "each attested, the last of each device answering"),
        ("inferences answered meanwhile", f"{tally.answers:,}", ""),
        ("bricks", f"**{len(tally.bricks)}**", "; ".join(tally.bricks)[:300]),
        ("lost floors", f"**{len(tally.lost_floors)}**", "; ".join(tally.lost_floors)[:300]),
        ("false successes", f"**{len(tally.false_successes)}**", "; ".join(tally.false_successes)[:3000]),
    ]
    lines = ["| what | number | detail |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    machine = f"Python {platform.python_version()}, {os.cpu_count()} CPUs"
    return "\n".join([*lines, "", f"Seed {seed}, {took_s:.0f} s. {machine}."])


def main() -> int:
    """Print the figures; 1 where harm was seen."""
    parser = argparse.ArgumentParser(description="Randomised kill -9 while rollouts run.")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", type=int, default=4)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills") as name:
        tally = trial(Path(name), kills=options.kills, seed=options.seed, devices=options.devices)
    print(table(tally, options.seed, time.monotonic() - started))
    return 1 if tally.harm or tally.total < options.kills else 0


if __name__ == "__main__":
    sys.exit(main())
