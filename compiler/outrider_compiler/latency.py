"""Latency of several candidates, interleaved so that a busy machine slows all of them alike.

1. One window, one thread, warmed first. Rounds visit every candidate, every other round backwards.
2. The ratio to the baseline is the median of ratios within a round: what slows a whole round cancels.
3. The clock is an argument.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

WARM_RUNS: Final = 20
ROUNDS: Final = 41
ROUNDS_MIN: Final = 7
ROUND_S: Final = 0.0015
REPEATS_MAX: Final = 50
BUDGET_S: Final = 3.0

Run = Callable[[], None]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Latency:
    """Median, 10th and 90th percentile in µs; `ratio` to the baseline (1.0 for itself)."""

    median_us: float
    p10_us: float
    p90_us: float
    ratio: float
    rounds: int


def interleaved(runs: dict[str, Run], baseline: str, clock: Clock = time.perf_counter) -> dict[str, Latency]:
    """Time every run; `baseline` is a key of `runs`."""
    repeats = {name: _repeats(run, clock) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    started = clock()
    while _more(len(times[baseline]), clock() - started):
        order = list(runs) if len(times[baseline]) % 2 == 0 else list(reversed(runs))
        for name in order:
            times[name].append(_one_round(runs[name], repeats[name], clock))
    return {name: _summary(values, times[baseline]) for name, values in times.items()}


def _more(rounds: int, spent_s: float) -> bool:
    return rounds < ROUNDS_MIN or (rounds < ROUNDS and spent_s < BUDGET_S)


def _repeats(run: Run, clock: Clock) -> int:
    started, warmed = clock(), 0
    while warmed < WARM_RUNS and clock() - started < BUDGET_S / 10:
        run()
        warmed += 1
    begun = clock()
    run()
    once_s = max(clock() - begun, 1e-6)
    return int(min(max(ROUND_S / once_s, 1), REPEATS_MAX))


def _one_round(run: Run, repeats: int, clock: Clock) -> float:
    run()  # the candidate before it left its own data in the caches
    started = clock()
    for _ in range(repeats):
        run()
    return (clock() - started) / repeats * 1e6


def _summary(values: list[float], baseline: list[float]) -> Latency:
    tenths = statistics.quantiles(values, n=10)
    ratio = statistics.median(value / base for value, base in zip(values, baseline, strict=True))
    return Latency(
        round(statistics.median(values), 2), round(tenths[0], 2), round(tenths[8], 2), round(ratio, 4), len(values)
    )
