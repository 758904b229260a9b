"""How long to wait before trying again: pure.

1. The first waits are short, so that an outage of some seconds ends soon; then they double up to `limit_s`.
2. Each wait is spread over its upper half, so that a fleet does not return at one moment.

>>> backoff = Backoff(first_s=0.25, limit_s=30.0, uniform=lambda low, high: high)
>>> [backoff.next_s() for _ in range(4)]
[0.25, 0.5, 1.0, 2.0]
>>> backoff.succeeded()
>>> backoff.next_s()
0.25
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Counts failures in a row."""

    def __init__(
        self, first_s: float, limit_s: float, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._first_s, self._limit_s, self._uniform = first_s, limit_s, uniform
        self._failures = 0

    def next_s(self) -> float:
        """Count one failure; return how many seconds to wait."""
        wait_s = min(self._limit_s, self._first_s * 2.0**self._failures)
        self._failures = min(self._failures + 1, 32)
        return self._uniform(wait_s / 2, wait_s)

    def succeeded(self) -> None:
        """Start over."""
        self._failures = 0
