"""The same figures for every part of the evaluation set that somebody named (`slice:site` [N]): fairness.

1. A slice of fewer than `SLICE_MIN` samples, or without one of the kinds that the figure needs, is listed and not
   judged: nothing can be said about it.
2. The worst slice decides; one single sample never does.
"""

from __future__ import annotations

from typing import Any, Final

from outrider_compiler.data import Array
from outrider_compiler.metrics import Task

SLICE_MIN: Final = 10


def figures(task: Task, source: Array, output: Array, y: Array, slices: dict[str, Array]) -> tuple[dict[str, Any], ...]:
    """One entry for each value of each slice: `slice` ("site=a"), n, primary value, and what was lost."""
    return tuple(
        _entry(task, f"{name}={value}", source[rows], output[rows], y[rows])
        for name, values in sorted(slices.items())
        for value in sorted(set(values.tolist()))
        for rows in (values == value,)
    )


def _entry(task: Task, label: str, source: Array, output: Array, y: Array) -> dict[str, Any]:
    n = len(y)
    if n < SLICE_MIN or not task.measurable(y):
        return {"slice": label, "n": n, "judged": False}
    lost, before = task.drop(source, output, y), task.primary_value(source, y)
    return {
        "slice": label, "n": n, "judged": True, "source": before, "value": task.primary_value(output, y),
        "drop": lost.value, "drop_low": lost.low, "drop_upper": lost.upper,
    }  # fmt: skip


def worst(entries: tuple[dict[str, Any], ...]) -> dict[str, Any] | None:
    """The judged slice that loses most; None without one."""
    judged = [item for item in entries if item["judged"]]
    return max(judged, key=lambda item: float(item["drop"]), default=None)
