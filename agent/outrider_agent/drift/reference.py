"""The artifact's reference statistics as arrays, and the scores of windows against them.

Rules (docs/spec/drift.md):

- Scores are, in this order and where the artifact has what they need: `confidence`, `embedding`, `channels`.
- A class that the calibration set never showed is compared with the mean over all calibration samples.
- A score that is not a number counts as the strangest possible one.
- The estimate of accuracy is ATC (Garg et al. 2022): the share of windows whose confidence exceeds the threshold
  that reproduces the reference accuracy; without a reference accuracy, the mean confidence. It informs, never decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from outrider_agent.drift.scores import Classes, Floats, channel_statistics, mahalanobis, unconfidence
from outrider_protocol.statistics import Gaussian, ReferenceStatistics

STRANGEST: Final = 1e30


@dataclass(frozen=True)
class ClassGaussian:
    """Class means [K, D] and one precision [D, D]."""

    means: Floats
    precision: Floats

    @classmethod
    def of(cls, gaussian: Gaussian, class_counts: tuple[int, ...]) -> ClassGaussian:
        """From the artifact; a class without a mean gets the mean over all calibration samples."""
        size = len(gaussian.precision)
        known = [k for k, mean in enumerate(gaussian.class_means) if mean]
        means = np.zeros((len(gaussian.class_means), size))
        for k in known:
            means[k] = gaussian.class_means[k]
        weights = np.asarray([max(class_counts[k], 1) for k in known], dtype=np.float64)
        overall = weights @ means[known] / weights.sum() if known else np.zeros(size)
        means[[k for k in range(len(means)) if k not in known]] = overall
        return cls(means, np.asarray(gaussian.precision, dtype=np.float64))

    def distance(self, values: Floats, klass: Classes) -> Floats:
        """Mahalanobis distance of [N, D] to the predicted class: [N]."""
        return mahalanobis(values, klass, self.means, self.precision)


@dataclass(frozen=True)
class Windows:
    """Windows as the model saw and answered them: `x` [N, …, C], `probabilities` [N, K], `embedding` [N, D] or None."""

    x: Floats
    probabilities: Floats
    embedding: Floats | None

    @cached_property
    def klass(self) -> Classes:
        """Predicted classes [N]."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def confidence(self) -> Floats:
        """Largest probabilities [N]."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @cached_property
    def channels(self) -> Floats:
        """Channel statistics [N, 2C]."""
        return channel_statistics(self.x)


@dataclass(frozen=True)
class Reference:
    """What scores need; `names` says which scores this artifact allows."""

    names: tuple[str, ...]
    embedding: ClassGaussian | None
    channels: ClassGaussian | None
    confident_above: float | None

    @classmethod
    def of(cls, statistics: ReferenceStatistics, *, has_embedding: bool) -> Reference:
        """From the artifact's statistics layer; `has_embedding` where the model gives the named tensor."""
        counts = statistics.class_counts
        embedding = ClassGaussian.of(statistics.embedding, counts) if statistics.embedding and has_embedding else None
        channels = ClassGaussian.of(statistics.channels, counts) if statistics.channels else None
        named = (("embedding", embedding), ("channels", channels))
        names = ("confidence", *(name for name, gaussian in named if gaussian))
        return cls(names, embedding, channels, atc_threshold(statistics))

    def scores(self, windows: Windows) -> Floats:
        """[N, len(names)], each growing with strangeness, all finite."""
        columns = [unconfidence(windows.probabilities)]
        if self.embedding is not None:
            columns.append(self.embedding.distance(_embedding(windows), windows.klass))
        if self.channels is not None:
            columns.append(self.channels.distance(windows.channels, windows.klass))
        return np.nan_to_num(np.stack(columns, axis=1), nan=STRANGEST, posinf=STRANGEST)

    def estimated_accuracy(self, confidence: Floats) -> float | None:
        """Estimate from the largest probabilities of some windows [N]; None without a window."""
        finite = confidence[np.isfinite(confidence)]
        if not len(finite):
            return None
        judged = finite if self.confident_above is None else finite > self.confident_above
        return round(float(judged.mean()), 4)


def _embedding(windows: Windows) -> Floats:
    values = np.zeros((len(windows.x), 0)) if windows.embedding is None else windows.embedding
    return values.reshape(len(values), -1)


def atc_threshold(statistics: ReferenceStatistics) -> float | None:
    """The confidence that a share `accuracy` of calibration samples exceeds; None where the artifact lacks it.

    `scores["confidence"][k]` are evenly spaced quantiles of the largest probability among samples predicted as k.
    """
    quantiles = statistics.scores.get("confidence", ())
    known = [(q, n) for q, n in zip(quantiles, statistics.class_counts, strict=False) if q and n]
    if statistics.accuracy is None or not known:
        return None
    values = np.concatenate([np.asarray(q) for q, _ in known])
    weights = np.concatenate([np.full(len(q), n / len(q)) for q, n in known])
    order = np.argsort(values)
    below = np.cumsum(weights[order]) / weights.sum()
    position = int(np.searchsorted(below, 1.0 - statistics.accuracy))
    return float(values[order][min(position, len(values) - 1)])
