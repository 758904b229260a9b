"""A logarithmic axis: candidates differ by factors, and equal factors are equal distances on it.

>>> scale = LogScale.around([26_212, 96_424], 0, 100)
>>> [tick.value for tick in scale.ticks()]
[20000.0, 50000.0, 100000.0]
>>> scale.at(20_000), round(scale.at(44_721)), scale.at(100_000)
(0.0, 50, 100.0)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LOWEST: Final = 1e-9
HIGHEST: Final = 1e300
STEPS: Final = (1.0, 2.0, 5.0)
FINER: Final = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
TICKS_MIN: Final = 2
TICKS_MAX: Final = 6


@dataclass(frozen=True)
class Tick:
    """A value that the axis names, and where it stands."""

    value: float
    at: float


@dataclass(frozen=True)
class LogScale:
    """From `low` at `start` to `high` at `stop` (pixels; may run backwards)."""

    low: float
    high: float
    start: float
    stop: float

    @classmethod
    def around(cls, values: Iterable[float], start: float, stop: float) -> LogScale:
        """Between the round numbers around all values."""
        held = [min(max(float(value), LOWEST), HIGHEST) for value in values] or [1.0]
        low, high = _round_down(min(held)), _round_up(max(held))
        return cls(low, high if high > low else low * 10, start, stop)

    @classmethod
    def between(cls, values: Iterable[float], start: float, stop: float) -> LogScale:
        """From the least to the largest value."""
        held = [min(max(float(value), LOWEST), HIGHEST) for value in values] or [1.0]
        low, high = min(held), max(held)
        return cls(low, high if high > low * 1.001 else low * 1.1, start, stop)

    def at(self, value: float) -> float:
        """Where a value stands; what lies outside stands at the end."""
        held = min(max(float(value), self.low), self.high)
        part = (math.log(held) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return round(self.start + part * (self.stop - self.start), 1)

    def ticks(self) -> list[Tick]:
        """Round numbers between both ends, at most `TICKS_MAX`; the ends where there is none."""
        found = self._inside(STEPS)
        if len(found) > TICKS_MAX:
            found = self._inside((1.0,))
        if len(found) < TICKS_MIN:
            found = self._inside(FINER)
        if len(found) < TICKS_MIN:
            found = [self.low, self.high]
        every = math.ceil(len(found) / TICKS_MAX)
        return [Tick(value, self.at(value)) for value in found[::every]]

    def _inside(self, steps: tuple[float, ...]) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = (step * 10.0**decade for decade in decades for step in steps)
        return [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]


def _round_down(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return max(step * decade for step in STEPS if step * decade <= value * 1.000001)


def _round_up(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return min(step * decade for step in (*STEPS, 10.0) if step * decade >= value * 0.999999)
