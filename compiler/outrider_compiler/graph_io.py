"""What the model's outputs mean: which is the probabilities, which the embedding, and how many classes there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outrider_compiler.data import Array, DataSet, Feeds
from outrider_compiler.errors import DataError, UnsupportedModelError, UsageError
from outrider_compiler.request import BuildRequest
from outrider_protocol.manifest import TensorSpec

SUM_TOLERANCE = 0.01


@dataclass(frozen=True)
class Meaning:
    """Names of the outputs by what they are; `classes` names the columns of `probabilities`."""

    probabilities: str
    embedding: str | None
    classes: tuple[str, ...]

    @property
    def compared(self) -> tuple[str, ...]:
        """Outputs whose signal-to-noise is gated."""
        return (self.probabilities, self.embedding) if self.embedding else (self.probabilities,)


def meaning(request: BuildRequest, outputs: tuple[TensorSpec, ...], answers: Feeds) -> Meaning:
    """By request, names and the source model's `answers`; raises `UsageError` or `UnsupportedModelError`."""
    names = [spec.name for spec in outputs]
    probabilities = _named(request.probabilities, "probabilities", names) or (names[0] if len(names) == 1 else None)
    if probabilities is None:
        raise UsageError(f"which of {names} are the probabilities?", "Name the output with --probabilities.")
    embedding = _named(request.embedding, "embedding", [name for name in names if name != probabilities])
    values = answers[probabilities]
    if values.ndim != 2 or values.shape[1] < 2:
        raise UnsupportedModelError(f"output {probabilities!r} has shape {values.shape}, [N, classes] is needed")
    if values.min() < -SUM_TOLERANCE or np.abs(values.sum(axis=1) - 1).max() > SUM_TOLERANCE:
        hint = "End the graph with a softmax: drift detection and the applications need probabilities."
        raise UnsupportedModelError(f"output {probabilities!r}: rows do not sum to 1", hint)
    return Meaning(probabilities, embedding, _classes(request, values.shape[1]))


def _named(asked: str | None, usual: str, names: list[str]) -> str | None:
    if asked is not None and asked not in names:
        raise UsageError(f"the model has no output {asked!r}, only {names}")
    return asked or (usual if usual in names else None)


def _classes(request: BuildRequest, count: int) -> tuple[str, ...]:
    if request.classes and len(request.classes) != count:
        raise UsageError(f"{len(request.classes)} class names for {count} classes")
    return request.classes or tuple(f"class_{i}" for i in range(count))


def labels(data: DataSet, classes: int) -> Array:
    """The true classes; raises `DataError` where there are none or one lies outside 0..classes−1."""
    if data.y is None:
        raise DataError("the evaluation set has no `y`: the gate needs true classes")
    if data.y.min() < 0 or data.y.max() >= classes:
        raise DataError(
            f"the evaluation set's y lies in {data.y.min()}..{data.y.max()}, the model has {classes} classes"
        )
    return data.y
