"""When a device's new baseline may be believed: the labelled check, and the group test.

1. The labelled check compares people's labels with what the device predicted **under its current artifact**: it
   passes when the lower confidence bound (Wilson, one-sided) of the accuracy reaches the threshold.
2. It alone clears a device that had drifted; its failure says so in words.
3. The group test clears devices that had not: their mean confidence is compared with that of their peers under the
   same artifact (Student's t against the peers' spread); it needs at least three peers.
4. Neither is a claim of more than was seen: too few labels, predictions or peers leave the device `rebaselining`.

>>> labelled_check(LabelledCheck(min_labels=20, min_accuracy=0.7), correct=38, n=40).passed
True
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Final

from outrider_fleet.domain.drift_policy import numbers
from outrider_fleet.domain.gates import wilson
from outrider_fleet.errors import InvalidRequestError

MIN_PEERS: Final = 3
# Two-sided 1 % points of Student's t for 2..30 degrees of freedom (Abramowitz & Stegun, table 26.10).
_T_99: Final = (
    9.925,
    5.841,
    4.604,
    4.032,
    3.707,
    3.499,
    3.355,
    3.250,
    3.169,
    3.106,
    3.055,
    3.012,
    2.977,
    2.947,
    2.921,
    2.898,
    2.878,
    2.861,
    2.845,
    2.831,
    2.819,
    2.807,
    2.797,
    2.787,
    2.779,
    2.771,
    2.763,
    2.756,
    2.750,
)


@dataclass(frozen=True)
class LabelledCheck:
    """Thresholds of the labelled check."""

    min_labels: int = 30
    min_accuracy: float = 0.7
    confidence: float = 0.95

    def json(self) -> dict[str, float]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> "LabelledCheck":
        """Read the JSON form; raises `InvalidRequestError`."""
        check = cls(**numbers(cls, value, "labelled_check"))
        if not 0 < check.confidence < 1 or check.min_labels < 1:
            raise InvalidRequestError("labelled_check: confidence lies strictly within 0..1, min_labels is at least 1")
        return check


@dataclass(frozen=True)
class Finding:
    """Whether a device may be cleared, and why (not)."""

    passed: bool
    why: str


def labelled_check(check: LabelledCheck, correct: int, n: int) -> Finding:
    """Judge `correct` of `n` labelled predictions that the device made under its current artifact."""
    if n < check.min_labels:
        return Finding(False, f"{n} labelled predictions, {check.min_labels} are needed")
    low, _ = wilson(correct, n, check.confidence)
    seen = f"{correct} of {n} right ({correct / n:.1%}, at least {low:.1%} with {check.confidence:.0%} confidence)"
    return Finding(low >= check.min_accuracy, f"{seen}; {check.min_accuracy:.1%} is asked for")


def group_test(own: float, peers: Sequence[float]) -> Finding:
    """Compare a device's mean confidence with its peers' means."""
    if len(peers) < MIN_PEERS:
        return Finding(False, f"{len(peers)} peers, {MIN_PEERS} are needed")
    n = len(peers)
    spread = max(stdev(peers), 1e-6) * math.sqrt(1 + 1 / n)
    t = (own - fmean(peers)) / spread
    limit = _T_99[min(n - 1, 30) - 2]
    return Finding(abs(t) <= limit, f"mean confidence {own:.3f}, peers {fmean(peers):.3f}: t = {t:.2f}, limit {limit}")
