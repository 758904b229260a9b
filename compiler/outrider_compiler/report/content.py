"""What the report says, as one JSON value; docs/spec/report.md lists its keys."""

from __future__ import annotations

import json
from typing import Any

from outrider_compiler.lock import Lock
from outrider_compiler.measure import BASELINE, Truth
from outrider_compiler.outcome import Outcome
from outrider_compiler.report.limits import limits
from outrider_profiles import Profile

Json = dict[str, Any]


def report(lock: Lock, truth: Truth, profiles: tuple[Profile, ...]) -> Json:
    """Everything that was measured and decided, with the baselines that put it into proportion."""
    task, source = truth.task, truth.outputs[truth.deciding]
    boards = {profile.name: board(profile) for profile in profiles}
    return {
        "v": 1,
        "request": lock.request,
        "inputs": lock.inputs,
        "evidence": lock.evidence,
        "tools": lock.tools,
        "evaluation": {
            "n": len(truth.y),
            "primary": task.primary,
            "skilled": task.skilled,
            "metrics": {name: item.json() for name, item in task.figures(source, truth.y).items()},
            "per_class": task.per_class(source, truth.y),
            "slices": sorted(truth.slices),
        },
        "profiles": {
            name: decided(outcome, lock.request["gate"], boards[name])
            for name, outcome in sorted(lock.outcomes.items())
        },
    }


def decided(outcome: Outcome, gate: Json, board: Json) -> Json:
    """One profile: its outcome, its board, and the limits of what was chosen (where all were refused: of fp32)."""
    value = outcome.json()
    candidates: list[Json] = value["candidates"]
    item = next((item for item in candidates if item["name"] == (value["chosen"] or BASELINE)), None)
    held = [limit.json() for limit in limits(item, candidates, gate, board)] if item else []
    return {**value, "board": board, "limits": held}


def board(profile: Profile) -> Json:
    """What a reader needs to know of a board."""
    return {
        "title": profile.title,
        "architecture": profile.architecture,
        "engine_versions": profile.engine.versions,
        "threads": profile.threads,
        "verified_on_hardware": profile.verified_on_hardware,
        "integers_alone": profile.int8.full,
        "shares_weights": profile.load.mode == "mmap",
        "budgets": dict(vars(profile.budgets)),
    }


def encode(value: Json) -> bytes:
    """Readable JSON, the same bytes for the same value."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
