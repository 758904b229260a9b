"""What this device may believe of the time.

1. `BUILD_MS` is when this code was made, the floor is that or the last verified `iat`: true time is never earlier.
2. A clock that stands before the floor is known to be wrong; one that stands after it may be right.
3. Certificates are held against the later of clock and floor (docs/adr/0012-clock-of-certificates.md).

>>> Now(clock_ms=0, floor_ms=5).at_ms, Now(clock_ms=0, floor_ms=5).clock_ok
(5, False)
>>> Now(clock_ms=9, floor_ms=5).at_ms
9
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

BUILD_MS: Final = 1_764_547_200_000  # 2025-12-01: no clock of a device that runs this code can rightly be earlier


def wall_ms() -> int:
    """The device's clock, ms UTC."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Now:
    """The device's clock and the time that it cannot rightly be before; both ms UTC."""

    clock_ms: int
    floor_ms: int = BUILD_MS

    @classmethod
    def read(cls, verified_ms: int = 0) -> Now:
        """This moment; `verified_ms` is the last verified `iat`."""
        return cls(wall_ms(), max(BUILD_MS, verified_ms))

    @property
    def at_ms(self) -> int:
        """The earliest time that it can be: what certificates are held against."""
        return max(self.clock_ms, self.floor_ms)

    @property
    def clock_ok(self) -> bool:
        """Whether the clock may be right."""
        return self.clock_ms >= self.floor_ms
