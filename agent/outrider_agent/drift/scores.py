"""Scores of one window: how unlike the reference data it is. Pure functions over numpy arrays.

Rules (docs/spec/drift.md):

- Every score grows with strangeness (one-sided), so a small p-value always means "stranger than the baseline".
- Reference means and precisions are computed by `class_statistics`, on the *predicted* classes of the artifact that
  ships, by the compiler; a device only evaluates `mahalanobis`.
- One channel is one index of the last axis; every axis between the first (windows) and the last is time or space.

>>> import numpy as np
>>> values, klass = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [2.0, 1.0]]), np.array([0, 0, 1, 1])
>>> mean, precision = class_statistics(values, klass, classes=2)
>>> mean.tolist()
[[1.0, 0.0], [1.0, 1.0]]
>>> near, far = mahalanobis(np.array([[1.0, 0.0], [9.0, 0.0]]), np.array([0, 0]), mean, precision)
>>> bool(near < far)
True
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Classes = NDArray[np.integer[Any]]

RIDGE_RATIO = 1e-3
"""Added to the pooled covariance's diagonal, as a share of its mean variance: keeps a constant channel invertible."""


def channel_statistics(x: Floats) -> Floats:
    """Mean and standard deviation of each channel: `x` [N, ..., C] → [N, 2C] float64, means first.

    An input without a middle axis ([N, F]) has standard deviation 0 everywhere, which the ridge absorbs.
    """
    flat = np.asarray(x, dtype=np.float64).reshape(len(x), -1, x.shape[-1])
    return np.concatenate([flat.mean(axis=1), flat.std(axis=1)], axis=1)


def class_statistics(values: Floats, klass: Classes, classes: int) -> tuple[Floats, Floats]:
    """Class means [K, D] and the precision [D, D] of the pooled within-class covariance (N − seen classes).

    `values` [N, D], `klass` [N] in 0..K−1 (predicted classes). A class without a row gets the mean of all rows.
    The covariance is ridged by `RIDGE_RATIO` of its mean variance before it is inverted.
    """
    values = np.asarray(values, dtype=np.float64)
    means = np.tile(values.mean(axis=0), (classes, 1))
    seen = np.unique(klass)
    for k in seen:
        means[k] = values[klass == k].mean(axis=0)
    residual = values - means[klass]
    covariance = residual.T @ residual / max(len(values) - len(seen), 1)
    variance = max(float(np.trace(covariance)) / covariance.shape[0], 1e-12)
    return means, np.linalg.inv(covariance + RIDGE_RATIO * variance * np.eye(covariance.shape[0]))


def mahalanobis(values: Floats, klass: Classes, means: Floats, precision: Floats) -> Floats:
    """Distance of each row [N, D] to the mean of its predicted class: [N] float64, ≥ 0."""
    return distance(values, means[klass], precision)


def distance(values: Floats, centres: Floats, precision: Floats) -> Floats:
    """Mahalanobis distance of each row [N, D] to its own centre [N, D]: [N] float64, ≥ 0."""
    residual = np.asarray(values, dtype=np.float64) - centres
    squared = np.einsum("nd,de,ne->n", residual, precision, residual, optimize=False)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def unconfidence(probabilities: Floats) -> Floats:
    """One minus the largest probability: [N, K] → [N] float64 in [0, 1]."""
    return np.asarray(1.0 - np.asarray(probabilities, dtype=np.float64).max(axis=1))


def energy(logits: Floats) -> Floats:
    """Free energy −log Σ exp(logit): [N, K] → [N] float64 (Liu et al. 2020, "Energy-based OOD detection")."""
    logits = np.asarray(logits, dtype=np.float64)
    top = logits.max(axis=1)
    return np.asarray(-(top + np.log(np.exp(logits - top[:, None]).sum(axis=1))))
