"""D1 and D12: how well the shipped models do on the held-out people, evaluated anew from the artifacts' files."""

from __future__ import annotations

from functools import cache

import numpy as np

from examples.watch import data
from examples.watch.checker.finding import Finding
from examples.watch.checker.layout import model_file
from examples.watch.checker.record import Record

RIGHT_AT_LEAST = 0.70
LEFT_AT_MOST = 0.45
LEFT_GAIN = 0.20
RIGHT_LOSS = 0.10


def accuracy(record: Record, version: str, people: list[int], wrist: str) -> float:
    """The share of right answers of the exact profile's artifact on all windows of some people's one wrist."""
    import onnxruntime

    model, config = model_file(record, version, record.plan["profiles"]["exact"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    x, y = data.stack(data.select(_recordings(), people, wrist))
    answers = session.run([config.probabilities], {config.inputs[0].name: x})[0].argmax(1)
    return float(np.mean(answers == y))


@cache
def _recordings() -> list[data.Recording]:
    return data.load()


def d1(record: Record) -> Finding:
    """Held-out accuracy of the first release on right and on left wrists, beside the no-skill figure."""
    people, version = held_out(record), record.version("first")
    right = accuracy(record, version, people, data.RIGHT)
    left = accuracy(record, version, people, data.LEFT)
    _, y = data.stack(data.select(_recordings(), people, data.RIGHT))
    no_skill = float(np.bincount(y).max() / len(y))
    return Finding(
        "D1",
        "accuracy of 1.0 on held-out people",
        right >= RIGHT_AT_LEAST and left <= LEFT_AT_MOST,
        f"right {right:.2f}, left {left:.2f}",
        f"right ≥ {RIGHT_AT_LEAST:.2f}, left ≤ {LEFT_AT_MOST:.2f}",
        (f"no-skill {no_skill:.2f}; people {people}, {len(y)} windows a wrist",),
    )


def held_out(record: Record) -> list[int]:
    """The four people whose devices stand in the fleet."""
    roles = record.plan["roles"]
    return sorted([*roles["label"], *roles["evaluate"]])


def d12(record: Record) -> Finding:
    """What retraining gained on the evaluating people's left wrists and lost on their right ones, person by person."""
    rows = [
        (person, wrist, *_pair(record, person, wrist)) for person in evaluating(record) for wrist in ("left", "right")
    ]
    gain = float(np.mean([after - before for _, wrist, before, after in rows if wrist == "left"]))
    loss = float(np.mean([before - after for _, wrist, before, after in rows if wrist == "right"]))
    return Finding(
        "D12",
        "accuracy on the evaluating people, 1.0 → 1.1",
        gain >= LEFT_GAIN and loss <= RIGHT_LOSS,
        f"left wrists {gain:+.2f}, right wrists {-loss:+.2f}",
        f"left ≥ +{LEFT_GAIN:.2f}, right ≥ −{RIGHT_LOSS:.2f}",
        tuple(f"person {p}, {wrist} wrist: {before:.2f} → {after:.2f}" for p, wrist, before, after in rows),
    )


def evaluating(record: Record) -> list[int]:
    """The people who only evaluate."""
    return sorted(record.plan["roles"]["evaluate"])


def _pair(record: Record, person: int, wrist: str) -> tuple[float, float]:
    first, good = (accuracy(record, record.version(name), [person], wrist) for name in ("first", "good"))
    return first, good
