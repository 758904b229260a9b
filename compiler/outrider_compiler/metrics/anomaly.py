"""Anomaly detection: a score that grows with strangeness, and the threshold above which it is an anomaly.

1. Primary is the area under the ROC curve, which needs no threshold; it must be shown to be above one half.
2. The threshold is the source model's own: the `QUANTILE` of its scores over the calibration set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from outrider_compiler.data import Array
from outrider_compiler.errors import DataError
from outrider_compiler.metrics.classification import Classification
from outrider_compiler.metrics.figure import DIGITS, Difference, Figure, figure, number, percentiles, resampled
from outrider_compiler.metrics.roc import area
from outrider_protocol.decision import CLASSES, Decision

QUANTILE: Final = 0.99


def decision_of(calibration_scores: Array) -> Decision:
    """Threshold and scale from the source's scores [N] over the calibration set."""
    scores = calibration_scores.astype(np.float64).reshape(-1)
    return Decision("anomaly", float(np.quantile(scores, QUANTILE)), max(float(scores.std()), 1e-9))


@dataclass(frozen=True)
class Anomaly:
    """`decision` holds the threshold; scores are [N] or [N, 1], `y` is 1 for an anomaly."""

    decision: Decision
    name: str = "anomaly"
    primary: str = "auc"
    skilled: str = "auc"

    def labels(self, y: Array | None) -> Array:
        """0 and 1 [N], both present; raises `DataError`."""
        if y is None or y.ndim != 1 or y.dtype.kind not in "iub" or set(np.unique(y).tolist()) != {0, 1}:
            raise DataError(
                "y must hold 0 (normal) and 1 (anomaly) for each sample, and both must occur",
                "Without anomalies in the evaluation set nothing can be said about finding them.",
            )
        return y.astype(np.int64)

    def figures(self, output: Array, y: Array) -> dict[str, Figure]:
        """AUC, and at the threshold: accuracy, balanced accuracy, macro precision, recall and F1."""
        scores, positive = output.reshape(-1), y == 1
        spread = resampled(lambda rows: area(scores[rows], positive[rows]), len(y))
        found = {"auc": figure("auc", area(scores, positive), percentiles(spread), len(y), 0.5)}
        at_threshold = self._binary().figures(self.decision.probabilities(output), y)
        return found | {name: item for name, item in at_threshold.items() if name != "auc_macro"}

    def primary_value(self, output: Array, y: Array) -> float:
        """Area under the ROC curve."""
        return number(area(output.reshape(-1), y == 1), self.primary)

    def measurable(self, y: Array) -> bool:
        """Whether the primary figure exists for these labels (a slice may lack a kind)."""
        return len(np.unique(y)) == 2

    def drop(self, source: Array, output: Array, y: Array) -> Difference:
        """Area lost."""
        before, after, positive = source.reshape(-1), output.reshape(-1), y == 1

        def lost(rows: Array) -> float:
            return area(before[rows], positive[rows]) - area(after[rows], positive[rows])

        low, upper = percentiles(resampled(lost, len(y)))
        return Difference(*(number(value, "drop") for value in (lost(np.arange(len(y))), low, upper)))

    def agreement(self, source: Array, output: Array) -> float:
        """Share of samples on the same side of the threshold."""
        return round(float((self.decision.verdicts(source) == self.decision.verdicts(output)).mean()), DIGITS)

    def per_class(self, output: Array, y: Array) -> dict[str, dict[str, Any]]:
        """At the threshold."""
        return self._binary().per_class(self.decision.probabilities(output), y)

    def _binary(self) -> Classification:
        return Classification(CLASSES["anomaly"])
