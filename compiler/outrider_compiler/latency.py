"""Latency of several candidates, interleaved so that a busy machine slows all of them alike.

1. One window, one thread, warmed first. Rounds visit every candidate, every other round backwards.
2. The ratio to the baseline is the median over rounds of best run ÷ best run: what slows a whole round cancels, and a
   run that another process interrupted is not the best one.
3. The clock is an argument.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

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


class Round(NamedTuple):
    """The runs of one candidate in one round, in µs."""

    mean_us: float
    best_us: float


def interleaved(runs: dict[str, Run], baseline: str, clock: Clock = time.perf_counter) -> dict[str, Latency]:
    """Time every run; `baseline` is a key of `runs`."""
    repeats = {name: _repeats(run, clock) for name, run in runs.items()}
    rounds: dict[str, list[Round]] = {name: [] for name in runs}
    started = clock()
    while _more(len(rounds[baseline]), clock() - started):
        order = list(runs) if len(rounds[baseline]) % 2 == 0 else list(reversed(runs))
        for name in order:
            rounds[name].append(_one_round(runs[name], repeats[name], clock))
    return {name: _summary(measured, rounds[baseline]) for name, measured in rounds.items()}


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


def _one_round(run: Run, repeats: int, clock: Clock) -> Round:
    run()  # the candidate before it left its own data in the caches
    times = [_timed(run, clock) for _ in range(repeats)]
    return Round(statistics.fmean(times), min(times))


def _timed(run: Run, clock: Clock) -> float:
    started = clock()
    run()
    return (clock() - started) * 1e6


def _summary(measured: list[Round], baseline: list[Round]) -> Latency:
    means = [item.mean_us for item in measured]
    tenths = statistics.quantiles(means, n=10)
    ratio = statistics.median(item.best_us / base.best_us for item, base in zip(measured, baseline, strict=True))
    return Latency(
        round(statistics.median(means), 2), round(tenths[0], 2), round(tenths[8], 2), round(ratio, 4), len(measured)
    )
