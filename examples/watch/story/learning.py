"""Stages 7 to 9: labels, a retraining that the server asks for, a bad candidate, the good one, and the check."""

from __future__ import annotations

import json
from concurrent.futures import Future
from typing import Any

from examples.watch.data import CLASSES
from examples.watch.errors import StageError
from examples.watch.story import rollouts
from examples.watch.story.cast import Cast
from examples.watch.story.plan import BAD, GOOD, MODEL
from examples.watch.story.rules import CHECKED, EVERYONE, FAILURES, POLICY, PROBATION, RETRAIN_S, SETTLE_S
from examples.watch.story.wearing import Wearing


def label(cast: Cast, wearing: Wearing, candidates: Future[None]) -> None:
    """The labelling people say what their windows showed since the move; the server's policy does the rest."""
    candidates.result()
    cast.releases.publish(BAD, cast.fleet, cast.releases.sign(BAD, cast.fleet))
    policy = cast.plan.root / "policy.json"
    policy.write_text(json.dumps(POLICY, indent=1))
    cast.fleet.cli("policy", "set", MODEL, "--autonomy", "automatic", "--spec", policy)
    taught = [watch.name for watch in cast.plan.watches if watch.person in cast.saboteur.sampled()]
    cast.wait_drained(taught, SETTLE_S)
    _import(cast, "train", [row for name in taught for row in wearing.fed(name) if row["part"] == "later"])
    cast.wait(lambda: _runs(cast), "the policy starts a run", SETTLE_S)
    cast.tell.say(f"the server's policy asked for a retraining: {_runs(cast)[0]['reason']['why']}")


def _runs(cast: Cast) -> list[dict[str, Any]]:
    answer = cast.fleet.get("/runs")
    return list(answer["items"] if isinstance(answer, dict) else answer)


def _import(cast: Cast, use: str, fed: list[dict[str, Any]]) -> None:
    labels = [
        {
            "prediction_id": row["prediction_id"],
            "label": CLASSES[row["klass"]],
            "source": f"{row['recording'][:3]}/{row['recording']}",
            "use": use,
        }
        for row in fed
        if row["prediction_id"]
    ]
    path = cast.plan.root / f"labels-{use}.json"
    path.write_text(json.dumps(labels))
    cast.fleet.cli("label", "import", path, "--model", MODEL)
    cast.tell.say(f"{len(labels)} labels imported ({use})")


def bad_candidate(cast: Cast, wearing: Wearing) -> None:
    """Send the candidate with shuffled labels: its shadow disagrees. Afterwards every device still answers."""
    spec = {name: value for name, value in POLICY["rollout"].items() if name != "group"}
    if cast.saboteur.breaks("D11"):
        spec |= {"gates": {"failures": FAILURES}, "parameters": {"probation_windows": PROBATION}}
    rollout = rollouts.start(cast, BAD, "all", spec)
    cast.tell.say(f"bad candidate: {rollouts.feed_until_ended(cast, wearing, rollout, 'shadow')}")
    wearing.feed("after", dict.fromkeys((watch.name for watch in cast.plan.watches), 2))


def await_good(cast: Cast) -> str:
    """Until the retraining has published 1.1 and the policy has started its rollout, whose id is returned."""

    def finished() -> dict[str, Any] | None:
        run = _runs(cast)[0]
        if run["state"] == "failed":
            raise StageError(f"the training run failed: {run['result']}")
        return run if run["rollout"] else None

    run = cast.wait(finished, "the retraining publishes 1.1 and its rollout starts", RETRAIN_S, 0.3)
    cast.tell.say(f"{run['id']} made {run['version']}: {json.dumps((run['result'] or {}).get('figures', {}))}")
    return str(run["rollout"])


def good_rollout(cast: Cast, wearing: Wearing, rollout: str) -> None:
    """1.1 to a canary that has not drifted, then to all."""
    if cast.saboteur.breaks("D7"):
        cast.saboteur.remember_state()
    cast.tell.say(f"{GOOD}: {rollouts.feed_until_ended(cast, wearing, rollout, 'shadow')}")


def left_behind(cast: Cast, wearing: Wearing) -> None:
    """A device that moved without an alarm refuses 1.1 in its shadow; the server names it, the operator orders 1.1."""
    behind = [name for name in cast.plan.named(moves=True) if cast.fleet.devices()[name]["version"] != GOOD]
    if not behind:
        return
    cast.tell.say(f"left behind, as their shadows disagreed: {', '.join(behind)}; ordered again without shadow")
    cast.fleet.post("/groups", {"name": "left-behind", "kind": "static", "devices": behind})
    spec = {"phases": [EVERYONE], "gates": {}, "parameters": {"probation_windows": PROBATION}}
    said = rollouts.feed_until_ended(cast, wearing, rollouts.start(cast, GOOD, "left-behind", spec), "shadow")
    cast.tell.say(f"{GOOD}: {said}")


def check_labelled(cast: Cast, wearing: Wearing) -> None:
    """People label what 1.1 answered on the moved devices; the server clears them."""
    moved = cast.plan.named(moves=True)
    before = {name: len(wearing.fed(name)) for name in moved}
    wearing.feed("after", dict.fromkeys(moved, CHECKED), left=moved)
    cast.wait_drained(moved, SETTLE_S)
    if not cast.saboteur.breaks("D13"):
        _import(cast, "check", [row for name in moved for row in wearing.fed(name)[before[name] :]])
    cast.wait(lambda: _cleared(cast, moved), "the moved devices are cleared by the labelled check", SETTLE_S)


def _cleared(cast: Cast, moved: list[str]) -> bool:
    rows = cast.fleet.devices()
    return all(rows[name]["phase"] in ("baseline", "watching") for name in moved)


def settle(cast: Cast) -> None:
    """Until every device has handed over everything; then what is broken at the very end."""
    cast.wait_drained([watch.name for watch in cast.plan.watches], SETTLE_S)
    if cast.saboteur.breaks("D5"):
        cast.saboteur.alter_installed()
    if cast.saboteur.breaks("D7"):
        cast.processes.stop(cast.saboteur.victim)
        cast.saboteur.set_back()
        cast.devices.start(cast.saboteur.victim)
        cast.wait(lambda: cast.devices.stage(cast.saboteur.victim) == "probation", "the device runs again", SETTLE_S)
    if cast.saboteur.breaks("D8"):
        cast.saboteur.lose_batch()
