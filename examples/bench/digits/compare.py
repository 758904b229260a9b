"""Several files of one model beside each other: size, speed, accuracy, signal-to-noise, agreement.

1. Speed is interleaved: each round visits every file, every other round backwards; a visit warms once, then takes the
   median of some inferences. The speed-up is the median over rounds of fp32's median ÷ the file's, with its 10th and
   90th percentile: what slows a whole round slows both.
2. Everything else is against the answers of the fp32 file on the evaluation set.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from examples.bench.digits import running
from examples.bench.digits.data import Digits
from examples.bench.digits.running import OUTPUTS, Answers, Running
from outrider_profiles import Load

SOURCE: Final = "fp32"
ROUNDS: Final = 61
VISIT_S: Final = 0.004
RUNS_MIN: Final = 5


@dataclass(frozen=True)
class Found:
    """Figures of one file. `speed_up` is fp32's latency ÷ its own: median, 10th and 90th percentile over rounds."""

    size_bytes: int
    latency_us: float
    speed_up: tuple[float, float, float]
    accuracy: float
    sqnr_db: dict[str, float]
    agreement: float
    n: int


def beside(files: dict[str, Path], judged: Digits, mode: Load) -> dict[str, Found]:
    """Figures by name; `files` holds `fp32`, which all others are compared with."""
    loaded = {name: running.load(path, mode) for name, path in files.items()}
    answers = {name: model.answers(judged.x) for name, model in loaded.items()}
    timed = rounds(loaded, judged)
    return {
        name: _found(path.stat().st_size, timed[name], timed[SOURCE], answers[name], answers[SOURCE], judged.y)
        for name, path in files.items()
    }


def rounds(loaded: dict[str, Running], judged: Digits) -> dict[str, list[float]]:
    """Median latency in µs of each file in each round."""
    for model in loaded.values():
        model.offer(judged.x[:1])
    runs = {name: _runs(model) for name, model in loaded.items()}
    times: dict[str, list[float]] = {name: [] for name in loaded}
    for number in range(ROUNDS):
        for name in list(loaded) if number % 2 else reversed(loaded):
            times[name].append(_visit(loaded[name], runs[name]))
    return times


def _runs(model: Running) -> int:
    for _ in range(RUNS_MIN):
        model.once()
    began = time.perf_counter()
    model.once()
    return max(RUNS_MIN, int(VISIT_S / max(time.perf_counter() - began, 1e-6)))


def _visit(model: Running, runs: int) -> float:
    model.once()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        model.once()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def _found(
    size: int, times: list[float], source_times: list[float], answers: Answers, source: Answers, y: NDArray[np.int64]
) -> Found:
    ratios = [one / other for one, other in zip(source_times, times, strict=True)]
    tenths = statistics.quantiles(ratios, n=10)
    probabilities = OUTPUTS[0]
    named = answers[probabilities].argmax(axis=1)
    return Found(
        size_bytes=size,
        latency_us=round(statistics.median(times), 1),
        speed_up=(round(statistics.median(ratios), 3), round(tenths[0], 3), round(tenths[8], 3)),
        accuracy=float((named == y).mean()),
        sqnr_db={name: round(sqnr_db(source[name], answers[name]), 1) for name in OUTPUTS},
        agreement=float((named == source[probabilities].argmax(axis=1)).mean()),
        n=len(y),
    )


def sqnr_db(source: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Power of the source's answers ÷ power of the difference, in dB; infinite where there is none.

    >>> round(sqnr_db(np.ones(4, np.float32), np.full(4, 1.01, np.float32)))
    40
    """
    signal = source.astype(np.float64)
    noise = float(((signal - got) ** 2).sum())
    return float(10 * np.log10(float((signal**2).sum()) / noise)) if noise else float("inf")
