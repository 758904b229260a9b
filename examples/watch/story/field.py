"""Stages 5 and 6: the fleet at work, the broker's death, and four people who change wrists."""

from __future__ import annotations

import json
import time

from examples.watch.story import rollouts
from examples.watch.story.cast import Cast
from examples.watch.story.plan import FIRST
from examples.watch.story.rules import (
    BASELINE,
    EVERYONE,
    FAILURES,
    LATER_MAX,
    LATER_STEP,
    OUTAGE_S,
    PROBATION,
    QUIET_MAX,
    SETTLE_S,
)
from examples.watch.story.wearing import Wearing


def first_rollout(cast: Cast, wearing: Wearing) -> None:
    """1.0 to a canary, then to all; its probation windows belong to each device's baseline."""
    spec = {
        "phases": [{"name": "canary", "max_devices": cast.saboteur.canary()}, EVERYONE],
        "gates": {"failures": FAILURES},
        "parameters": {"probation_windows": PROBATION},
    }
    rollouts.feed_until_ended(cast, wearing, rollouts.start(cast, FIRST, "all", spec), "baseline")


def baselines(cast: Cast, wearing: Wearing) -> None:
    """The rest of every baseline, while the broker is dead."""
    death = cast.pool.submit(_outage, cast)
    wearing.feed("baseline", {watch.name: BASELINE - len(wearing.fed(watch.name)) for watch in cast.plan.watches})
    from_ms, until_ms = death.result()
    with (cast.plan.truth / "outages.jsonl").open("a") as file:
        file.write(json.dumps({"from_ms": from_ms, "until_ms": until_ms}) + "\n")
    cast.tell.say(f"the broker was dead for {(until_ms - from_ms) / 1000:.1f} s; the devices went on")


def _outage(cast: Cast) -> tuple[int, int]:
    time.sleep(0.5)
    return cast.fleet.kill_broker(OUTAGE_S)


def move(cast: Cast, wearing: Wearing) -> None:
    """Four devices change wrists; windows go on until all of them alarm, or there were enough."""
    moved, early = cast.plan.named(moves=True), cast.saboteur.left_too_early()
    for start in range(0, LATER_MAX, LATER_STEP):
        step = min(LATER_STEP, LATER_MAX - start)
        quiet = [name for name in cast.plan.named(moves=False) if start < QUIET_MAX or name in early]
        wearing.feed("later", dict.fromkeys([*moved, *quiet], step), left=[*moved, *early])
        if {*moved, *early} <= alarmed(cast):
            break
    cast.wait(lambda: len(alarmed(cast)) >= 3, "three devices in alarm", SETTLE_S)
    cast.tell.say(f"in alarm: {', '.join(sorted(alarmed(cast)))}")


def alarmed(cast: Cast) -> set[str]:
    """The devices that say so."""
    return {name for name, row in cast.fleet.devices().items() if row["phase"] == "alarm"}
