"""Rollouts of the story: started by the operator's command, fed with windows until they have ended."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from examples.watch.errors import StageError
from examples.watch.story.cast import Cast
from examples.watch.story.plan import MODEL
from examples.watch.story.rules import ROLLOUT_S, TRIALS
from examples.watch.story.wearing import Wearing


@dataclass
class Trial:
    """One device's shadowing or probation: what it still asks for, from a while after it has begun.

    >>> trial = Trial(wanted=5, begins_after_s=1.0)
    >>> [trial.next(now_s) for now_s in (10.0, 10.5, 11.0, 11.5, 12.0)]
    [0, 0, 4, 1, 0]
    """

    wanted: int
    begins_after_s: float
    since_s: float = 0.0
    turns: int = 0

    def next(self, now_s: float) -> int:
        """As many windows as the trial needs, four at a time; then one now and then, for those that came too early."""
        self.since_s, self.turns = self.since_s or now_s, self.turns + 1
        if now_s - self.since_s < self.begins_after_s:
            return 0
        amount = min(self.wanted, 4) or int(self.turns % 4 == 0)
        self.wanted = max(0, self.wanted - amount)
        return amount


def start(cast: Cast, version: str, group: str, spec: dict[str, Any]) -> str:
    """Start a rollout; its id."""
    path = cast.plan.root / f"rollout-{version}-{group}.json"
    path.write_text(json.dumps(spec))
    said = cast.fleet.cli("rollout", "create", MODEL, version, "--group", group, "--spec", path, "--json")
    return str(json.loads(said)["id"])


def why(cast: Cast, rollout: str) -> str:
    """The sentence of `outrider-fleet why`, shortened."""
    return cast.fleet.cli("why", rollout).strip().replace("\n", " ")[:150]


def feed_until_ended(cast: Cast, wearing: Wearing, rollout: str, part: str) -> str:
    """Give windows to the devices on trial until the rollout has ended; its state, in words."""
    deadline, trials = time.monotonic() + ROLLOUT_S, dict[tuple[str, str], Trial]()
    moved = set(cast.plan.named(moves=True)) if part != "baseline" else set[str]()
    while (state := cast.fleet.rollout(rollout)["state"]) in ("running", "proposed"):
        cast.processes.check()
        if time.monotonic() > deadline:
            raise StageError(f"rollout {rollout} is {state} after {ROLLOUT_S:.0f} s: {why(cast, rollout)}")
        amounts = _asked_for(cast, trials)
        wearing.feed(part, amounts, left=moved & set(amounts))
        time.sleep(0.1)
    return f"{state}: {why(cast, rollout)}"


def _asked_for(cast: Cast, trials: dict[tuple[str, str], Trial]) -> dict[str, int]:
    """How many windows each device on trial gets now."""
    amounts: dict[str, int] = {}
    for watch in cast.plan.watches:
        stage = cast.devices.stage(watch.name)
        if stage in TRIALS:
            trial = trials.setdefault((watch.name, stage), Trial(*TRIALS[stage]))
            amounts[watch.name] = trial.next(time.monotonic())
    return amounts
