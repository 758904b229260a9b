"""What the model's outputs mean: which one decides, which is the embedding, and by which task they are judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outrider_compiler.data import Array, Feeds
from outrider_compiler.errors import UnsupportedModelError, UsageError
from outrider_compiler.metrics import Anomaly, Classification, Regression, Task, anomaly, regression
from outrider_compiler.request import BuildRequest
from outrider_protocol.decision import CLASSES, Decision
from outrider_protocol.manifest import TensorSpec

SUM_TOLERANCE = 0.01
USUAL = {"classification": "probabilities", "regression": "value", "anomaly": "score"}


@dataclass(frozen=True)
class Meaning:
    """Names of the outputs by what they are; `deciding` holds probabilities, values or scores.

    `classes` names the columns of the probabilities that `task.decision` makes of it.
    """

    deciding: str
    embedding: str | None
    classes: tuple[str, ...]
    task: Task

    @property
    def compared(self) -> tuple[str, ...]:
        """Outputs whose signal-to-noise is gated."""
        return (self.deciding, self.embedding) if self.embedding else (self.deciding,)


def meaning(request: BuildRequest, outputs: tuple[TensorSpec, ...], answers: Feeds, calibrated: Feeds) -> Meaning:
    """By request, names and the source's `answers` on both sets; raises `UsageError` or `UnsupportedModelError`."""
    names = [spec.name for spec in outputs]
    usual = USUAL[request.task]
    deciding = _named(request.probabilities, usual, names) or (names[0] if len(names) == 1 else None)
    if deciding is None:
        raise UsageError(f"which of {names} decides ({usual})?", "Name the output with --probabilities.")
    embedding = _named(request.embedding, "embedding", [name for name in names if name != deciding])
    task = _task(request, deciding, answers[deciding], calibrated[deciding])
    classes = task.classes if isinstance(task, Classification) else CLASSES[task.name]
    return Meaning(deciding, embedding, classes, task)


def _named(asked: str | None, usual: str, names: list[str]) -> str | None:
    if asked is not None and asked not in names:
        raise UsageError(f"the model has no output {asked!r}, only {names}")
    return asked or (usual if usual in names else None)


def _task(request: BuildRequest, name: str, answers: Array, calibrated: Array) -> Task:
    if not np.isfinite(answers).all():
        raise UnsupportedModelError(
            f"output {name!r} holds values that are not finite", "The source model itself is broken on this data."
        )
    if request.task == "regression":
        return Regression(Decision("regression", scale=regression.scale_of(answers)))
    if request.task == "anomaly":
        _check_score(name, answers)
        return Anomaly(anomaly.decision_of(calibrated))
    return _classification(request, name, answers)


def _check_score(name: str, scores: Array) -> None:
    if scores.ndim > 2 or scores[0].size != 1:
        raise UnsupportedModelError(
            f"output {name!r} has shape {list(scores.shape)}, a score [N] or [N, 1] is needed",
            "Let the graph end in one number that grows with strangeness.",
        )


def _classification(request: BuildRequest, name: str, values: Array) -> Classification:
    if values.ndim != 2 or values.shape[1] < 2:
        raise UnsupportedModelError(f"output {name!r} has shape {list(values.shape)}, [N, classes] is needed")
    if values.min() < -SUM_TOLERANCE or np.abs(values.sum(axis=1) - 1).max() > SUM_TOLERANCE:
        hint = "End the graph with a softmax: drift detection and the applications need probabilities."
        raise UnsupportedModelError(f"output {name!r}: rows do not sum to 1", hint)
    return Classification(_classes(request, values.shape[1]))


def _classes(request: BuildRequest, count: int) -> tuple[str, ...]:
    if request.classes and len(request.classes) != count:
        raise UsageError(f"{len(request.classes)} class names for {count} classes")
    return request.classes or tuple(f"class_{i}" for i in range(count))
