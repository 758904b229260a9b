"""The people who wear the watches: a process of its own, the only one that knows what the windows truly show.

1. It sends recorded windows to the devices' local sockets and writes `truth/feed/<device>.jsonl`, a line a window.
2. Recordings are interleaved and never looped: a device that has no window left is an error.
3. Windows of a device come one after the other at `rate_hz`; devices are fed side by side.
4. Orders come as JSON lines on standard input: `{"part", "rate_hz", "feed": {device: n}, "wrist": {device: wrist}}`;
   each is answered by a line: `{"fed": {device: n}}` or `{"error": text}`.

    python -m examples.watch.story.feeder RUN
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.watch.data import LEFT, RIGHT, Recording, Window, interleave, load, select
from examples.watch.errors import StreamEndedError, WatchError
from outrider_agent.client import Client
from outrider_agent.errors import UnreachableError
from outrider_agent.worker.errors import RefusedError, WorkerGoneError

PATIENCE_S = 20.0
PAUSE_S = 0.05


@dataclass
class Wearer:
    """One device on one person: what is left of each wrist's windows, and the file of what was given."""

    socket: Path
    feed: Path
    windows: dict[str, deque[Window]]
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(self.socket, model="har")

    def give(self, n: int, part: str, wrist: str, rate_hz: float) -> int:
        """Send `n` windows of one wrist; returns `n`. Raises `StreamEndedError` or `UnreachableError`."""
        with self.feed.open("a", encoding="utf-8") as file:
            for number in range(n):
                due = time.monotonic() + 1.0 / rate_hz
                if not self.windows[wrist]:
                    raise StreamEndedError(f"{self.feed.stem}: no {wrist} window left after {number} of {n}")
                told = self._one(self.windows[wrist].popleft())
                file.write(json.dumps({**told, "part": part, "wrist": wrist}) + "\n")
                file.flush()
                time.sleep(max(0.0, due - time.monotonic()))
        return n

    def _one(self, window: Window) -> dict[str, Any]:
        """Send one window; a worker that is being replaced is asked again."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                result = self.client.infer({"x": window.x[None]})
            except (UnreachableError, WorkerGoneError, RefusedError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE_S)
                continue
            return {
                "at_ms": time.time_ns() // 1_000_000,
                "recording": window.recording,
                "klass": window.klass,
                "prediction_id": result.prediction_ids[0],
                "digest": result.digest,
                "answer": int(result.outputs["probabilities"][0].argmax()),
            }


def wearers(run: Path) -> dict[str, Wearer]:
    """Everyone in the plan."""
    plan = json.loads((run / "truth" / "plan.json").read_bytes())
    recordings = load()
    return {
        name: Wearer(
            run / "devices" / name / "run" / "har.sock",
            run / "truth" / "feed" / f"{name}.jsonl",
            {wrist: _stream(recordings, device["person"], wrist) for wrist in (RIGHT, LEFT)},
        )
        for name, device in plan["devices"].items()
    }


def _stream(recordings: list[Recording], person: int, wrist: str) -> deque[Window]:
    return deque(interleave(select(recordings, [person], wrist)))


def main(arguments: list[str]) -> int:
    """Serve orders until standard input ends."""
    people = wearers(Path(arguments[0]))
    print(json.dumps({"ready": len(people)}), flush=True)
    with ThreadPoolExecutor(len(people)) as pool:
        for line in sys.stdin:
            order = json.loads(line)
            given = {
                name: pool.submit(
                    people[name].give, n, order["part"], order.get("wrist", {}).get(name, RIGHT), order["rate_hz"]
                )
                for name, n in order["feed"].items()
            }
            try:
                answer: dict[str, Any] = {"fed": {name: future.result() for name, future in given.items()}}
            except (WatchError, UnreachableError, WorkerGoneError, RefusedError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
