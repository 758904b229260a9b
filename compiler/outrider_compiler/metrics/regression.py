"""Regression: errors in the unit of `y`, beside always saying the mean.

1. Primary is the root mean square error; what is lost is told as a share of the no-skill error (the spread of `y`).
2. R² must be shown to be above 0.
3. Two answers agree where they differ by at most `scale` (`Decision`): a twentieth of the source's own spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from outrider_compiler.data import Array
from outrider_compiler.errors import DataError
from outrider_compiler.metrics.figure import DIGITS, Difference, Figure, figure, number, percentiles, resampled
from outrider_protocol.decision import Decision

SCALE_RATIO: Final = 0.05


def scale_of(source: Array) -> float:
    """The step in which answers are compared, from the source model's outputs [N, …]."""
    return max(float(np.std(source.astype(np.float64))) * SCALE_RATIO, 1e-9)


@dataclass(frozen=True)
class Regression:
    """`decision.scale` is the tolerance of agreement in the unit of `y`."""

    decision: Decision
    name: str = "regression"
    primary: str = "rmse"
    skilled: str = "r2"

    def labels(self, y: Array | None) -> Array:
        """Finite values [N, D]; raises `DataError`."""
        if y is None:
            raise DataError("the evaluation set has no `y`: the gate needs true values")
        if y.dtype.kind not in "fiu" or y.ndim > 2:
            raise DataError(f"y must be numbers [N] or [N, D], not {y.dtype} {list(y.shape)}")
        return y.astype(np.float64).reshape(len(y), -1)

    def figures(self, output: Array, y: Array) -> dict[str, Figure]:
        """RMSE, MAE and R²."""
        squared, absolute = (
            (self._residual(output, y) ** 2).mean(axis=1),
            np.abs(self._residual(output, y)).mean(axis=1),
        )
        around = ((y - y.mean(axis=0)) ** 2).mean(axis=1)
        statistics: dict[str, tuple[Any, float]] = {
            "rmse": (lambda rows: float(np.sqrt(squared[rows].mean())), float(np.sqrt(around.mean()))),
            "mae": (lambda rows: float(absolute[rows].mean()), float(np.abs(y - np.median(y, axis=0)).mean())),
            "r2": (lambda rows: float(1 - squared[rows].mean() / max(around[rows].mean(), 1e-300)), 0.0),
        }
        every = np.arange(len(y))
        return {
            name: figure(name, of(every), percentiles(resampled(of, len(y))), len(y), no_skill)
            for name, (of, no_skill) in statistics.items()
        }

    def primary_value(self, output: Array, y: Array) -> float:
        """Root mean square error."""
        return number(float(np.sqrt((self._residual(output, y) ** 2).mean())), self.primary)

    def measurable(self, y: Array) -> bool:
        """Whether the primary figure exists for these labels (a slice may lack a kind)."""
        return len(y) > 0

    def drop(self, source: Array, output: Array, y: Array) -> Difference:
        """Root mean square error gained, as a share of the no-skill error."""
        before, after = ((self._residual(o, y) ** 2).mean(axis=1) for o in (source, output))
        no_skill = max(float(np.sqrt(((y - y.mean(axis=0)) ** 2).mean())), 1e-300)

        def gained(rows: Array) -> float:
            return float((np.sqrt(after[rows].mean()) - np.sqrt(before[rows].mean())) / no_skill)

        low, upper = percentiles(resampled(gained, len(y)))
        return Difference(*(number(value, "drop") for value in (gained(np.arange(len(y))), low, upper)))

    def agreement(self, source: Array, output: Array) -> float:
        """Share of samples whose every value is within the tolerance."""
        apart = np.abs(source.astype(np.float64) - output.astype(np.float64)).reshape(len(source), -1).max(axis=1)
        return round(float((apart <= self.decision.scale).mean()), DIGITS)

    def per_class(self, output: Array, y: Array) -> dict[str, dict[str, Any]]:
        """There are no classes."""
        del output, y
        return {}

    def _residual(self, output: Array, y: Array) -> Array:
        values = output.astype(np.float64).reshape(len(output), -1)
        if values.shape != y.shape:
            raise DataError(f"the model gives {list(values.shape)}, y is {list(y.shape)}")
        return np.asarray(values - y)
