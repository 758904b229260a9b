"""Reference statistics and golden vectors: computed on the candidate that ships, over the calibration set.

The definitions stand in docs/spec/drift.md, which the agent evaluates; numbers are rounded to seven digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from outrider_compiler.data import Array, Feeds
from outrider_protocol import tensors
from outrider_protocol.statistics import Bins, Gaussian, ReferenceStatistics

BINS: Final = 32
QUANTILES: Final = 101
RIDGE_RATIO: Final = 1e-3
DIMENSIONS_MAX: Final = 256
GOLDEN_ROWS: Final = 4


@dataclass(frozen=True)
class Answered:
    """Inputs `x` [N, …, C] and the shipped model's `probabilities` [N, K] and `embedding` [N, D] or None."""

    x: Array
    probabilities: Array
    embedding: Array | None

    @property
    def klass(self) -> Array:
        """Predicted classes [N]."""
        return np.asarray(self.probabilities.argmax(axis=1))


def statistics(answered: Answered, classes: tuple[str, ...], accuracy: float | None) -> ReferenceStatistics:
    """Everything that drift detection on the device compares with."""
    k, klass = len(classes), answered.klass
    channels = channel_statistics(answered.x)
    embedding = None if answered.embedding is None else answered.embedding.reshape(len(klass), -1).astype(np.float64)
    gaussians = {"embedding": _gaussian(embedding, klass, k), "channels": _gaussian(channels, klass, k)}
    values = {"embedding": embedding, "channels": channels}
    confidence = answered.probabilities.astype(np.float64).max(axis=1)
    scores = {"confidence": 1.0 - confidence}
    for name, gaussian in gaussians.items():
        if gaussian is not None:
            scores[name] = _mahalanobis(np.asarray(values[name]), klass, gaussian)
    return ReferenceStatistics(
        classes=classes,
        n=len(klass),
        class_counts=tuple(int(n) for n in np.bincount(klass, minlength=k)),
        bins=_all_bins(channels, scores),
        embedding=gaussians["embedding"],
        channels=gaussians["channels"],
        scores=_quantiles({**scores, "confidence": confidence}, klass, k),
        accuracy=accuracy,
    )


def channel_statistics(x: Array) -> Array:
    """Mean, then standard deviation, of each channel: [N, …, C] → [N, 2C]."""
    flat = np.asarray(x, dtype=np.float64).reshape(len(x), -1, x.shape[-1])
    return np.concatenate([flat.mean(axis=1), flat.std(axis=1)], axis=1)


def constant_channels(x: Array) -> list[int]:
    """Channels that never change over the whole set: drift in them cannot be seen in proportion."""
    flat = np.asarray(x).reshape(-1, x.shape[-1])
    return [int(c) for c in np.flatnonzero(flat.min(axis=0) == flat.max(axis=0))]


def _all_bins(channels: Array, scores: dict[str, Array]) -> tuple[Bins, ...]:
    half = channels.shape[1] // 2
    counted = half if channels.shape[1] <= DIMENSIONS_MAX else 0
    named = {f"channel.{c}.mean": channels[:, c] for c in range(counted)}
    named.update({f"channel.{c}.std": channels[:, half + c] for c in range(counted)})
    named.update({f"score.{name}": values for name, values in scores.items()})
    return tuple(_bins(name, values) for name, values in named.items())


def _bins(name: str, values: Array) -> Bins:
    edges = _rounded(np.quantile(values, np.arange(1, BINS) / BINS))
    counts = np.bincount(np.searchsorted(np.asarray(edges), values, side="right"), minlength=BINS)
    return Bins(name, edges, tuple(int(n) for n in counts))


def _gaussian(values: Array | None, klass: Array, classes: int) -> Gaussian | None:
    if values is None or values.shape[1] > DIMENSIONS_MAX:
        return None
    seen = [int(k) for k in np.unique(klass)]
    means = {k: values[klass == k].mean(axis=0) for k in seen}
    residual = values - np.stack([means[int(k)] for k in klass])
    covariance = residual.T @ residual / max(len(values) - len(seen), 1)
    variance = max(float(np.trace(covariance)) / len(covariance), 1e-12)
    precision = np.linalg.inv(covariance + RIDGE_RATIO * variance * np.eye(len(covariance)))
    rows = tuple(_rounded(means[k]) if k in means else () for k in range(classes))
    return Gaussian(rows, tuple(_rounded(row) for row in precision))


def _mahalanobis(values: Array, klass: Array, gaussian: Gaussian) -> Array:
    means = np.stack([np.asarray(gaussian.class_means[int(k)]) for k in klass])
    residual = values - means
    squared = np.einsum("nd,de,ne->n", residual, np.asarray(gaussian.precision), residual, optimize=False)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def _quantiles(scores: dict[str, Array], klass: Array, classes: int) -> dict[str, tuple[tuple[float, ...], ...]]:
    steps = np.linspace(0, 1, QUANTILES)

    def of(values: Array) -> tuple[float, ...]:
        return _rounded(np.quantile(values, steps)) if len(values) else ()

    return {name: tuple(of(values[klass == k]) for k in range(classes)) for name, values in sorted(scores.items())}


def _rounded(values: Array) -> tuple[float, ...]:
    return tuple(float(f"{value:.7g}") for value in values)


def golden(inputs: Feeds, outputs: Feeds, precision: str) -> bytes:
    """A few inputs with the shipped model's own answers; integer candidates may differ by a rounding step per layer."""
    named = {f"input:{name}": _tensor(value) for name, value in inputs.items()}
    named.update({f"output:{name}": _tensor(value) for name, value in outputs.items()})
    largest = max((float(np.abs(value).max(initial=0.0)) for value in outputs.values()), default=1.0)
    loose = precision != "fp32"
    meta = {"rtol": 0.02 if loose else 1e-3, "atol": float(f"{max(largest, 1.0) * (0.02 if loose else 1e-4):.3g}")}
    return tensors.encode(named, meta)


def _tensor(value: Array) -> tensors.Tensor:
    little = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"))
    kind = f"{value.dtype.kind}{value.dtype.itemsize}"
    return tensors.Tensor(kind, tuple(value.shape), little.tobytes())
