"""How good a candidate is beside the source model. Pure numpy.

>>> import numpy as np
>>> round(sqnr_db(np.ones(4), np.full(4, 1.01)))
40
>>> agreement(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.6, 0.4], [0.7, 0.3]]))
0.5
"""

from __future__ import annotations

from typing import Final

import numpy as np

from outrider_compiler.data import Array

DB_MAX: Final = 200.0


def sqnr_db(reference: Array, got: Array) -> float:
    """Signal-to-quantization-noise ratio in dB, within ±`DB_MAX`; not a number in `got` gives −`DB_MAX`."""
    signal = np.asarray(reference, dtype=np.float64)
    noise = signal - np.asarray(got, dtype=np.float64)
    if not np.isfinite(noise).all():
        return -DB_MAX
    power, loss = float((signal**2).sum()), float((noise**2).sum())
    if loss == 0.0:
        return DB_MAX
    return float(np.clip(10 * np.log10(max(power, 1e-300) / loss), -DB_MAX, DB_MAX))


def agreement(reference: Array, got: Array) -> float:
    """Share of samples [N, K] whose most probable class is the same."""
    return float((np.asarray(reference).argmax(axis=1) == np.asarray(got).argmax(axis=1)).mean())


def accuracy(probabilities: Array, y: Array) -> float:
    """Share of samples whose most probable class is `y`."""
    return float((np.asarray(probabilities).argmax(axis=1) == y).mean())


def balanced_accuracy(probabilities: Array, y: Array) -> float:
    """Mean over the classes that occur in `y` of their recall."""
    predicted = np.asarray(probabilities).argmax(axis=1)
    return float(np.mean([(predicted[y == k] == k).mean() for k in np.unique(y)]))


def no_skill_accuracy(y: Array) -> float:
    """Accuracy of always saying the most frequent class."""
    return float(np.bincount(y).max() / len(y))


def wilson_interval(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share of `n` (Wilson 1927)."""
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)
