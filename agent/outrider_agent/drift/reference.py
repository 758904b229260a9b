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

import numpy as np

from outrider_agent.drift.centres import NOT_A_NUMBER
from outrider_agent.drift.scores import Classes, Floats, channel_statistics, distance, unconfidence
from outrider_protocol.statistics import Gaussian, ReferenceStatistics


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

    @property
    def flat_embedding(self) -> Floats:
        """The embedding as [N, D]."""
        values = np.zeros((len(self.x), 0)) if self.embedding is None else self.embedding
        return np.asarray(values, dtype=np.float64).reshape(len(values), -1)

    @cached_property
    def channels(self) -> Floats:
        """Channel statistics [N, 2C]."""
        return channel_statistics(self.x)


@dataclass(frozen=True)
class Reference:
    """What scores need; `names` says which scores this artifact allows, `gaussians` are those after the first."""

    names: tuple[str, ...]
    gaussians: tuple[ClassGaussian, ...]
    confident_above: float | None

    @classmethod
    def of(cls, statistics: ReferenceStatistics, *, has_embedding: bool) -> Reference:
        """From the artifact's statistics layer; `has_embedding` where the model gives the named tensor."""
        shipped = {"embedding": statistics.embedding if has_embedding else None, "channels": statistics.channels}
        known = {name: ClassGaussian.of(g, statistics.class_counts) for name, g in shipped.items() if g is not None}
        return cls(("confidence", *known), tuple(known.values()), atc_threshold(statistics))

    def features(self, windows: Windows) -> Floats:
        """What scores are computed from: [N, F] finite float64: 1 − confidence, then the vector of each gaussian."""
        vectors = {"embedding": lambda: windows.flat_embedding, "channels": lambda: windows.channels}
        columns = [unconfidence(windows.probabilities)[:, None], *(vectors[name]() for name in self.names[1:])]
        features = np.concatenate(columns, axis=1)
        return np.nan_to_num(features, nan=NOT_A_NUMBER, posinf=NOT_A_NUMBER, neginf=-NOT_A_NUMBER)

    def parts(self, features: Floats) -> list[Floats]:
        """The vectors [N, D] of each gaussian in `features`."""
        parts, start = [], 1
        for gaussian in self.gaussians:
            width = len(gaussian.precision)
            parts.append(features[:, start : start + width])
            start += width
        return parts

    def scores(self, features: Floats, centres: list[Floats]) -> Floats:
        """[N, len(names)], each growing with strangeness; `centres` has one [N, D] for each gaussian."""
        columns = [features[:, 0]]
        for gaussian, values, centre in zip(self.gaussians, self.parts(features), centres, strict=True):
            columns.append(distance(values, centre, gaussian.precision))
        return np.stack(columns, axis=1)

    def fleet_scores(self, features: Floats, klass: Classes) -> Floats:
        """Scores against the reference means: comparable over devices, for statistics."""
        return self.scores(features, [gaussian.means[klass] for gaussian in self.gaussians])

    def estimated_accuracy(self, confidence: Floats) -> float | None:
        """Estimate from the largest probabilities of some windows [N]; None without a window."""
        finite = confidence[np.isfinite(confidence)]
        if not len(finite):
            return None
        judged = finite if self.confident_above is None else finite > self.confident_above
        return round(float(judged.mean()), 4)


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
