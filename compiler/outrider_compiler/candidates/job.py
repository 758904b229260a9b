"""What every maker of candidates works from: one float model, its data, and what the profile's engine is like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrider_compiler.candidates.target import Target
from outrider_compiler.data import DataSet, Feeds

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class Job:
    """`model` has named nodes and is never changed; `folder` takes scratch files.

    `calibrate` gives the ranges of values by name, each set of names measured once.
    """

    model: ModelProto
    target: Target
    calibration: DataSet
    calibrate: Callable[[frozenset[str]], Any]
    folder: Path

    def samples(self, count: int) -> Feeds:
        """At most `count` calibration samples, spread evenly over the set."""
        return spread(self.calibration, count)


def spread(data: DataSet, count: int) -> Feeds:
    """At most `count` samples at even distances."""
    import numpy as np

    rows = np.unique(np.linspace(0, data.n - 1, min(count, data.n)).astype(int))
    return {name: np.ascontiguousarray(value[rows]) for name, value in data.feeds.items()}
