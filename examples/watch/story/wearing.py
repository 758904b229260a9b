"""The story's side of the feeder process: what to feed whom, and what the truth files say afterwards."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from examples.watch.data import LEFT
from examples.watch.errors import StageError
from examples.watch.story.plan import ROOT, Plan
from examples.watch.story.processes import command, environment

RATE_HZ = 40.0


class Wearing:
    """One feeder process; calls may come from any thread, one is served at a time."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._lock = plan, threading.Lock()
        self._log = (plan.logs / "feeder.log").open("ab")
        self._process = subprocess.Popen(
            command("python", "-m", "examples.watch.story.feeder", plan.root),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=ROOT,
            env=environment(),
            text=True,
        )
        self._answer()

    def feed(self, part: str, amounts: Mapping[str, int], left: Iterable[str] = (), rate_hz: float = RATE_HZ) -> None:
        """Give each device its number of windows; those in `left` wear the watch on the left wrist."""
        wanted = {name: n for name, n in amounts.items() if n > 0}
        if not wanted:
            return
        order = {"part": part, "rate_hz": rate_hz, "feed": wanted, "wrist": dict.fromkeys(left, LEFT)}
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            self._answer()

    def fed(self, device: str) -> list[dict[str, Any]]:
        """What the truth says was given to a device."""
        path: Path = self._plan.truth / "feed" / f"{device}.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    def close(self) -> None:
        """End the feeder."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def _answer(self) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the feeder ended"}
        if "error" in answer:
            raise StageError(str(answer["error"]), f"See {self._plan.logs / 'feeder.log'}.")
