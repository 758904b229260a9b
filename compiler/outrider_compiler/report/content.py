"""What the report says, as one JSON value."""

from __future__ import annotations

import json
from typing import Any

from outrider_compiler import quality
from outrider_compiler.lock import Lock
from outrider_compiler.measure import Truth


def report(lock: Lock, truth: Truth) -> dict[str, Any]:
    """Everything that was measured and decided, with the baselines that put it into proportion."""
    source = truth.outputs[truth.probabilities]
    accuracy = quality.accuracy(source, truth.y)
    low, high = quality.wilson_interval(accuracy, len(truth.y))
    return {
        "v": 1,
        "request": lock.request,
        "inputs": lock.inputs,
        "tools": lock.tools,
        "evaluation": {
            "n": len(truth.y),
            "source_accuracy": round(accuracy, 5),
            "source_accuracy_interval": [round(low, 5), round(high, 5)],
            "source_balanced_accuracy": round(quality.balanced_accuracy(source, truth.y), 5),
            "no_skill_accuracy": round(quality.no_skill_accuracy(truth.y), 5),
        },
        "profiles": {name: outcome.json() for name, outcome in sorted(lock.outcomes.items())},
    }


def encode(value: dict[str, Any]) -> bytes:
    """Readable JSON, the same bytes for the same value."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
