"""Area under the ROC curve, by ranks (Mann and Whitney 1947); ties count half."""

from __future__ import annotations

import numpy as np

from outrider_compiler.data import Array


def area(score: Array, positive: Array) -> float:
    """Of `score` [N] for the samples where `positive` [N] is true; not a number where one kind is missing.

    >>> area(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    yes = int(positive.sum())
    no = len(positive) - yes
    if not yes or not no:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no))
