"""Latency of several candidates, interleaved so that a busy machine slows all of them alike.

1. One window, warmed first. Rounds visit every candidate, every other round backwards.
2. The ratio to the baseline is the median over rounds of best run ÷ best run: what slows a whole round cancels, and a
   run that another process interrupted is not the best one.
3. The clock is an argument.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

WARM_RUNS: Final = 20
ROUNDS: Final = 41
ROUNDS_MIN: Final = 7
ROUND_S: Final = 0.0015
REPEATS_MAX: Final = 50
BUDGET_S: Final = 3.0
HISTOGRAM_BINS: Final = 24
HISTOGRAM_ENDS: Final = (0.5, 99.0)

Run = Callable[[], None]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Latency:
    """Median, 10th and 90th percentile over rounds in µs; `ratio` to the baseline (1.0 for itself).

    `histogram` counts single runs between logarithmic `edges_us`; what lies outside is counted at the ends.
    """

    median_us: float
    p10_us: float
    p90_us: float
    ratio: float
    rounds: int
    histogram: dict[str, Any] = field(default_factory=dict)


class Round(NamedTuple):
    """The runs of one candidate in one round, in µs."""

    times_us: list[float]

    @property
    def mean_us(self) -> float:
        """Mean over the round."""
        return statistics.fmean(self.times_us)

    @property
    def best_us(self) -> float:
        """The least disturbed run."""
        return min(self.times_us)


def interleaved(
    runs: dict[str, Run], baseline: str, clock: Clock = time.perf_counter, budget_s: float = BUDGET_S
) -> dict[str, Latency]:
    """Time every run; `baseline` is a key of `runs`."""
    repeats = {name: _repeats(run, clock, budget_s) for name, run in runs.items()}
    rounds: dict[str, list[Round]] = {name: [] for name in runs}
    started = clock()
    while _more(len(rounds[baseline]), clock() - started, budget_s):
        order = list(runs) if len(rounds[baseline]) % 2 == 0 else list(reversed(runs))
        for name in order:
            rounds[name].append(_one_round(runs[name], repeats[name], clock))
    return {name: _summary(measured, rounds[baseline]) for name, measured in rounds.items()}


def timed(run: Run, clock: Clock = time.perf_counter) -> float:
    """One run in µs."""
    started = clock()
    run()
    return (clock() - started) * 1e6


def _more(rounds: int, spent_s: float, budget_s: float) -> bool:
    return rounds < ROUNDS_MIN or (rounds < ROUNDS and spent_s < budget_s)


def _repeats(run: Run, clock: Clock, budget_s: float) -> int:
    started, warmed = clock(), 0
    while warmed < WARM_RUNS and clock() - started < budget_s / 10:
        run()
        warmed += 1
    once_s = max(timed(run, clock) / 1e6, 1e-6)
    return int(min(max(ROUND_S / once_s, 1), REPEATS_MAX))


def _one_round(run: Run, repeats: int, clock: Clock) -> Round:
    run()  # the candidate before it left its own data in the caches
    return Round([timed(run, clock) for _ in range(repeats)])


def _summary(measured: list[Round], baseline: list[Round]) -> Latency:
    means = [item.mean_us for item in measured]
    tenths = statistics.quantiles(means, n=10)
    ratio = statistics.median(item.best_us / base.best_us for item, base in zip(measured, baseline, strict=True))
    return Latency(
        round(statistics.median(means), 2),
        round(tenths[0], 2),
        round(tenths[8], 2),
        round(ratio, 4),
        len(measured),
        histogram([time_us for item in measured for time_us in item.times_us]),
    )


def histogram(times_us: list[float]) -> dict[str, Any]:
    """Counts between logarithmic edges from nearly the fastest to nearly the slowest run."""
    low, high = (max(float(end), 1e-3) for end in np.percentile(times_us, HISTOGRAM_ENDS))
    edges = np.geomspace(low, max(high, low * 1.01), HISTOGRAM_BINS + 1)
    counts, _ = np.histogram(np.clip(times_us, edges[0], edges[-1]), edges)
    return {"edges_us": [round(float(edge), 3) for edge in edges], "counts": [int(n) for n in counts]}
