"""Counts over the artifact's own bins: what a device tells of its inputs without sending one.

Rules (docs/spec/drift.md):

- Variables are named by the artifact's bins: `channel.<c>.mean`, `channel.<c>.std`, `score.<name>`; one that this
  device cannot compute, or that is not a number, is counted as missing.
- Edges are equal on every device, so counts merge by addition, exactly, in any order and grouping.
- A value falls into bin `searchsorted(edges, value, side="right")`: edge i is the first value of bin i + 1.

>>> import numpy as np
>>> from outrider_protocol.statistics import Bins
>>> counter = WindowCounter((Bins("channel.0.mean", (0.0, 1.0), (0, 0, 0)),), classes=2)
>>> counts = counter.count({"channel.0.mean": np.array([-1.0, 0.5, 0.5])}, np.array([0, 1, 1]), np.full(3, 0.9))
>>> counts.bins[0].tolist(), counts.class_counts.tolist()
([1, 2, 0], [1, 2])
>>> (counts + counts).n
6
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outrider_agent.drift.scores import Classes, Floats
from outrider_protocol.statistics import Bins

Counts = Classes


@dataclass(frozen=True)
class WindowCounts:
    """Sums over `n` windows: per variable its bins [V][B] and missing [V]; per class windows [K] and confidence [K]."""

    n: int
    bins: tuple[Counts, ...]
    missing: Counts
    class_counts: Counts
    confidence_sum: Floats

    def __add__(self, other: WindowCounts) -> WindowCounts:
        return WindowCounts(
            self.n + other.n,
            tuple(mine + theirs for mine, theirs in zip(self.bins, other.bins, strict=True)),
            self.missing + other.missing,
            self.class_counts + other.class_counts,
            self.confidence_sum + other.confidence_sum,
        )

    def columns(self) -> dict[str, tuple[str, bytes]]:
        """As columns of a `windows` batch: `counts` u4 [ΣB] in the order of the artifact's bins, and the sums."""
        counts = np.concatenate(self.bins) if self.bins else np.zeros(0)
        return {
            "counts": ("u4", counts.astype("<u4").tobytes()),
            "missing": ("u4", self.missing.astype("<u4").tobytes()),
            "class_counts": ("u4", self.class_counts.astype("<u4").tobytes()),
            "confidence_sum": ("f8", self.confidence_sum.astype("<f8").tobytes()),
        }


class WindowCounter:
    """Counts windows over the bins of one artifact."""

    def __init__(self, bins: tuple[Bins, ...], classes: int) -> None:
        self._names = tuple(item.name for item in bins)
        self._edges = tuple(np.asarray(item.edges, dtype=np.float64) for item in bins)
        self._classes = classes

    def empty(self) -> WindowCounts:
        """No window."""
        return WindowCounts(
            0,
            tuple(np.zeros(len(edges) + 1, dtype=np.int64) for edges in self._edges),
            np.zeros(len(self._edges), dtype=np.int64),
            np.zeros(self._classes, dtype=np.int64),
            np.zeros(self._classes),
        )

    def count(self, variables: dict[str, Floats], klass: Classes, confidence: Floats) -> WindowCounts:
        """Count windows: each variable [n], predicted `klass` [n], largest probability `confidence` [n]."""
        n, bins, missing = len(klass), [], []
        for name, edges in zip(self._names, self._edges, strict=True):
            values = variables.get(name)
            present = np.zeros(0) if values is None else values[np.isfinite(values)]
            bins.append(np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1))
            missing.append(n - len(present))
        return WindowCounts(
            n,
            tuple(bins),
            np.asarray(missing, dtype=np.int64),
            np.bincount(klass, minlength=self._classes),
            np.bincount(klass, weights=np.nan_to_num(confidence), minlength=self._classes).astype(np.float64),
        )


def variables_of(channels: Floats, scores: Floats, names: tuple[str, ...]) -> dict[str, Floats]:
    """Every variable that a device can compute, from `channel_statistics` [n, 2C] and `scores` [n, S] with `names`."""
    half = channels.shape[1] // 2
    variables = {f"channel.{c}.mean": channels[:, c] for c in range(half)}
    variables.update({f"channel.{c}.std": channels[:, half + c] for c in range(half)})
    variables.update({f"score.{name}": scores[:, column] for column, name in enumerate(names)})
    return variables
