"""What the report says, as one JSON value."""

from __future__ import annotations

import json
from typing import Any

from outrider_compiler.lock import Lock
from outrider_compiler.measure import Truth


def report(lock: Lock, truth: Truth) -> dict[str, Any]:
    """Everything that was measured and decided, with the baselines that put it into proportion."""
    task, source = truth.task, truth.outputs[truth.deciding]
    return {
        "v": 1,
        "request": lock.request,
        "inputs": lock.inputs,
        "tools": lock.tools,
        "evaluation": {
            "n": len(truth.y),
            "primary": task.primary,
            "skilled": task.skilled,
            "metrics": {name: item.json() for name, item in task.figures(source, truth.y).items()},
            "per_class": task.per_class(source, truth.y),
            "slices": sorted(truth.slices),
        },
        "profiles": {name: outcome.json() for name, outcome in sorted(lock.outcomes.items())},
    }


def encode(value: dict[str, Any]) -> bytes:
    """Readable JSON, the same bytes for the same value."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
