"""Gates: whether what was seen so far lets a rollout go on.

1. A gate counts bad cases among a sample and judges the ratio by its Wilson interval (Wilson 1927), one-sided.
2. Below `min_sample` it waits. Surely above `max_ratio` aborts, surely below lets the rollout advance.
3. Between the two it waits for more; when no more can come (`final`) the plain ratio decides.
4. Every verdict carries the sentence that an operator reads.
5. A gate that is not known, or lacks a field, is an error.

>>> Gate("failures", max_ratio=0.1, min_sample=2).judge(bad=2, n=2, final=True).verdict
<Verdict.ABORT: 'abort'>
>>> Gate("failures", max_ratio=0.1, min_sample=5).judge(bad=0, n=2, final=False).why
'failures: 2 of at least 5 seen, 0 bad; waiting for 3 more'
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from statistics import NormalDist
from typing import Any, Final

from outrider_fleet.errors import GateError

KNOWN: Final = ("failures", "shadow")
_FIELDS: Final = {"max_ratio", "min_sample", "confidence"}


@unique
class Verdict(Enum):
    """What a gate (or a phase) says."""

    WAIT = "wait"
    ADVANCE = "advance"
    ABORT = "abort"


@dataclass(frozen=True)
class Judgement:
    """A verdict and its reason in words."""

    verdict: Verdict
    why: str


@dataclass(frozen=True)
class Gate:
    """One gate: at most `max_ratio` bad cases, judged from `min_sample` cases on."""

    name: str
    max_ratio: float
    min_sample: int
    confidence: float = 0.95

    def judge(self, bad: int, n: int, *, final: bool) -> Judgement:
        """Return the judgement on `bad` of `n` cases; `final` says that no more cases can come."""
        if n < self.min_sample:
            return self._starved(bad, n, final=final)
        low, high = wilson(bad, n, self.confidence)
        seen = f"{self.name}: {bad} of {n} bad ({bad / n:.1%}, {self.confidence:.0%} bounds {low:.1%} to {high:.1%})"
        limit = f"the limit is {self.max_ratio:.1%}"
        if low > self.max_ratio or (final and bad / n > self.max_ratio):
            return Judgement(Verdict.ABORT, f"{seen}; above: {limit}")
        if high <= self.max_ratio:
            return Judgement(Verdict.ADVANCE, f"{seen}; below: {limit}")
        if final:
            return Judgement(Verdict.ADVANCE, f"{seen}; no more will come and the ratio is within bounds: {limit}")
        return Judgement(Verdict.WAIT, f"{seen}; not decided yet: {limit}")

    def _starved(self, bad: int, n: int, *, final: bool) -> Judgement:
        seen = f"{self.name}: {n} of at least {self.min_sample} seen, {bad} bad"
        if final and n and bad / n > self.max_ratio:
            return Judgement(Verdict.ABORT, f"{seen}; no more will come, and the ratio is above {self.max_ratio:.1%}")
        if final:
            return Judgement(Verdict.WAIT, f"{seen}; no more will come from this phase: advance it by hand or abort it")
        return Judgement(Verdict.WAIT, f"{seen}; waiting for {self.min_sample - n} more")


def wilson(bad: int, n: int, confidence: float) -> tuple[float, float]:
    """One-sided Wilson bounds (low, high) of a ratio, each at `confidence`; (0, 1) where n = 0.

    >>> tuple(round(bound, 3) for bound in wilson(1, 10, 0.95))
    (0.023, 0.348)
    """
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(confidence)
    p = bad / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if bad == 0 else max(0.0, centre - half)
    return low, 1.0 if bad == n else min(1.0, centre + half)


def combine(judgements: Iterable[Judgement]) -> Judgement:
    """One judgement of several: any abort aborts, any wait waits."""
    listed = list(judgements)
    for verdict in (Verdict.ABORT, Verdict.WAIT):
        said = [item.why for item in listed if item.verdict is verdict]
        if said:
            return Judgement(verdict, "; ".join(said))
    return Judgement(Verdict.ADVANCE, "; ".join(item.why for item in listed) or "no gate is set")


def parse(value: Mapping[str, Any]) -> tuple[Gate, ...]:
    """Read `{name: {max_ratio, min_sample, confidence?}}`; raises `GateError`."""
    return tuple(_parse_one(name, fields) for name, fields in sorted(value.items()))


def _parse_one(name: str, fields: Any) -> Gate:
    if name not in KNOWN or not isinstance(fields, Mapping):
        raise GateError(f"gate {name[:40]!r} is not known (known: {', '.join(KNOWN)})")
    if set(fields) - _FIELDS or not {"max_ratio", "min_sample"} <= set(fields):
        raise GateError(f"gate {name}: fields {sorted(fields)}; max_ratio and min_sample are needed")
    gate = Gate(name, **fields)
    if not (_ratio(fields["max_ratio"]) and _ratio(fields.get("confidence", 0.95)) and 0 < gate.confidence < 1):
        raise GateError(f"gate {name}: max_ratio lies within 0..1, confidence strictly within")
    if type(fields["min_sample"]) is not int or gate.min_sample < 1:
        raise GateError(f"gate {name}: min_sample is a whole number from 1")
    return gate


def _ratio(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
