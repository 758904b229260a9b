"""Classification: everything follows from the confusion matrix, but the area under the ROC curve.

1. Primary is accuracy; balanced accuracy must beat 1 / classes, whatever accuracy says.
2. Macro figures are means over the classes that occur in `y`.
3. Resampling samples is resampling the cells of the confusion matrix: exact, and cheap at any n.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np

from outrider_compiler.data import Array
from outrider_compiler.errors import DataError
from outrider_compiler.metrics.figure import (
    DIGITS,
    Difference,
    Figure,
    figure,
    number,
    percentiles,
    resampled,
    resampled_counts,
    wilson,
)
from outrider_compiler.metrics.roc import area
from outrider_protocol.decision import Decision

AUC_CLASSES_MAX: Final = 50
AUC_CELLS_MAX: Final = 200_000
AUC_RESAMPLES: Final = 100
MACRO: Final = ("balanced_accuracy", "precision_macro", "recall_macro", "f1_macro")


@dataclass(frozen=True)
class Classification:
    """`classes` names the columns of the probabilities [N, K]."""

    classes: tuple[str, ...]
    name: str = "classification"
    primary: str = "accuracy"
    skilled: str = "balanced_accuracy"
    decision: Decision = field(default_factory=Decision)

    def labels(self, y: Array | None) -> Array:
        """Integer classes [N]; raises `DataError`."""
        if y is None:
            raise DataError("the evaluation set has no `y`: the gate needs true classes")
        if y.ndim != 1 or y.dtype.kind not in "iu":
            raise DataError(f"y must be integer classes [N], not {y.dtype} {list(y.shape)}")
        if y.min() < 0 or y.max() >= len(self.classes):
            raise DataError(
                f"the evaluation set's y lies in {y.min()}..{y.max()}, the model has {len(self.classes)} classes"
            )
        return y.astype(np.int64)

    def figures(self, output: Array, y: Array) -> dict[str, Figure]:
        """Accuracy, balanced accuracy, macro precision, recall and F1, and (few classes) macro one-vs-rest AUC."""
        cells, n = Cells.of(output.argmax(axis=1), y, len(self.classes)), len(y)
        accuracy = float((output.argmax(axis=1) == y).mean())
        commonest = float(np.bincount(y).max() / n)
        found = {"accuracy": figure("accuracy", accuracy, wilson(accuracy, n), n, commonest)}
        values = cells.macro(cells.counts[None])[:, 0]
        spread = cells.macro(resampled_counts(cells.counts, len(self.classes)))
        for name, value, many in zip(MACRO, values, spread, strict=True):
            found[name] = figure(name, value, percentiles(many), n, self._no_skill(name, y))
        if len(self.classes) <= AUC_CLASSES_MAX and output.size <= AUC_CELLS_MAX and len(np.unique(y)) > 1:
            found["auc_macro"] = self._auc(output, y)
        return found

    def _no_skill(self, name: str, y: Array) -> float | None:
        """Of always saying the commonest class."""
        seen, share = len(np.unique(y)), float(np.bincount(y).max() / len(y))
        return {
            "balanced_accuracy": 1 / seen, "recall_macro": 1 / seen, "precision_macro": share / seen,
            "f1_macro": 2 * share / (1 + share) / seen,
        }.get(name)  # fmt: skip

    def _auc(self, output: Array, y: Array) -> Figure:
        seen = np.unique(y)

        def mean_area(rows: Array) -> float:
            areas = [area(output[rows, k], y[rows] == k) for k in seen]
            return float(np.nanmean(areas)) if not np.all(np.isnan(areas)) else float("nan")

        every = np.arange(len(y))
        spread = resampled(mean_area, len(y), AUC_RESAMPLES)
        return figure("auc_macro", mean_area(every), percentiles(spread), len(y), 0.5)

    def primary_value(self, output: Array, y: Array) -> float:
        """Accuracy."""
        return number(float((output.argmax(axis=1) == y).mean()), self.primary)

    def measurable(self, y: Array) -> bool:
        """Whether the primary figure exists for these labels (a slice may lack a kind)."""
        return len(y) > 0

    def drop(self, source: Array, output: Array, y: Array) -> Difference:
        """Accuracy lost, from the samples that one of both gets right."""
        lost = (source.argmax(axis=1) == y).astype(np.int64) - (output.argmax(axis=1) == y).astype(np.int64)
        counts = np.array([(lost == step).sum() for step in (-1, 0, 1)])
        spread = resampled_counts(counts) @ np.array([-1, 0, 1]) / len(y)
        low, upper = percentiles(spread)
        return Difference(*(number(value, "drop") for value in (lost.mean(), low, upper)))

    def agreement(self, source: Array, output: Array) -> float:
        """Share of samples with the same most probable class."""
        return round(float((source.argmax(axis=1) == output.argmax(axis=1)).mean()), DIGITS)

    def per_class(self, output: Array, y: Array) -> dict[str, dict[str, Any]]:
        """Precision, recall, F1 and n of each class."""
        cells = Cells.of(output.argmax(axis=1), y, len(self.classes))
        precision, recall, f1 = (values[0] for values in cells.rates(cells.counts[None]))
        support = np.bincount(y, minlength=len(self.classes))
        return {
            name: {
                "precision": _or_none(precision[k]), "recall": _or_none(recall[k]), "f1": _or_none(f1[k]),
                "n": int(support[k]),
            }
            for k, name in enumerate(self.classes)
        }  # fmt: skip


def _or_none(value: float) -> float | None:
    return round(float(value), DIGITS) if np.isfinite(value) else None


@dataclass(frozen=True)
class Cells:
    """The non-empty cells of a confusion matrix: `truth` and `said` are the classes of each, `counts` its samples."""

    truth: Array
    said: Array
    counts: Array
    classes: int

    @classmethod
    def of(cls, said: Array, y: Array, classes: int) -> Cells:
        """Count."""
        keys, counts = np.unique(y * classes + said, return_counts=True)
        return cls(keys // classes, keys % classes, counts, classes)

    @cached_property
    def _by_truth(self) -> Array:
        return _indicator(self.truth, self.classes)

    @cached_property
    def _by_said(self) -> Array:
        return _indicator(self.said, self.classes)

    def rates(self, counts: Array) -> tuple[Array, Array, Array]:
        """Precision, recall and F1 [R, K] of counts [R, cells]; not a number where a class does not occur in `y`."""
        counts = counts.astype(np.float64)
        hits = (counts * (self.truth == self.said)) @ self._by_truth
        support, said = counts @ self._by_truth, counts @ self._by_said
        occurs = np.where(support > 0, 1.0, np.nan)
        precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0) * occurs
        recall = np.divide(hits, support, out=np.zeros_like(hits), where=support > 0) * occurs
        return precision, recall, 2 * hits / np.maximum(support + said, 1) * occurs

    def macro(self, counts: Array) -> Array:
        """The figures of `MACRO` [4, R]."""
        precision, recall, f1 = (np.nanmean(values, axis=1) for values in self.rates(counts))
        return np.stack([recall, precision, recall, f1])


def _indicator(index: Array, classes: int) -> Array:
    return np.equal.outer(index, np.arange(classes)).astype(np.float64)
