"""One figure with its interval, and how intervals are made.

1. A share is a Wilson interval (Wilson 1927); everything else is a percentile bootstrap (Efron 1979) of `RESAMPLES`.
2. Chance is a generator with a fixed seed: the same data give the same interval.
3. What could not be measured is not finite, and `number` refuses it by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from outrider_compiler.data import Array
from outrider_compiler.errors import GateError

RESAMPLES: Final = 1000
SEED: Final = 20_250_701
TAIL: Final = 0.025
RESAMPLES_MIN: Final = 100
NUMBERS_MAX: Final = 20_000_000
DIGITS: Final = 6


@dataclass(frozen=True)
class Figure:
    """A value on `n` samples, its 95 % interval, and what a model without skill reaches."""

    value: float
    low: float
    high: float
    n: int
    no_skill: float | None = None

    def json(self) -> dict[str, Any]:
        """As it stands in the lock and in report.json."""
        return dict(vars(self))


@dataclass(frozen=True)
class Difference:
    """How much a candidate loses against the source, paired by sample; `low`..`upper` is the 95 % interval."""

    value: float
    low: float
    upper: float


def number(value: float, what: str) -> float:
    """A rounded finite number; raises `GateError`: a metric that could not be measured fails, it is not skipped."""
    if not math.isfinite(value):
        raise GateError(f"{what} could not be measured", "Look at the evaluation set: labels, sizes and values.")
    return round(float(value), DIGITS)


def figure(what: str, value: float, interval: tuple[float, float], n: int, no_skill: float | None) -> Figure:
    """A rounded `Figure`."""
    low, high = (number(end, what) for end in interval)
    return Figure(number(value, what), low, high, n, None if no_skill is None else number(no_skill, what))


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share of `n`."""
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def percentiles(values: Array) -> tuple[float, float]:
    """The middle 95 % of resampled values; not finite ones (a class that a resample misses) are left out."""
    kept = values[np.isfinite(values)]
    if not len(kept):
        return math.nan, math.nan
    low, high = np.quantile(kept, [TAIL, 1 - TAIL])
    return float(low), float(high)


def resampled_counts(counts: Array, width: int = 1) -> Array:
    """Bootstrap of samples that fall into cells: [R, cells] counts of the same total; `width` columns follow."""
    total, times = int(counts.sum()), _times(len(counts) * width, RESAMPLES)
    return np.random.default_rng(SEED).multinomial(total, counts / total, size=times)


def resampled(statistic: Callable[[Array], float], n: int, most: int = RESAMPLES) -> Array:
    """Bootstrap of a statistic of sample indices: [R] values."""
    rng = np.random.default_rng(SEED)
    return np.asarray([statistic(rng.integers(0, n, n)) for _ in range(_times(n, most))])


def _times(size: int, most: int) -> int:
    """Resamples: fewer where each is large."""
    return int(min(most, max(RESAMPLES_MIN, NUMBERS_MAX // size)))
