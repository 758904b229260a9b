"""Which received order needs the update process, and when a failed one is tried again: pure.

1. The order of the recorded execution needs it only while that execution is still being fetched.
2. An order that could not be judged (no metadata, no chunks) is tried again after 2, 4, 8 … 600 s, and at once on a new
   connection; one that was refused is tried again only when it is received again after `AGAIN_S`.

>>> tries = Tries()
>>> tries.failed("aa", now_s=0.0, final=False)
2.0
>>> tries.failed("aa", now_s=2.0, final=False)
4.0
>>> tries.refused("aa", now_s=3.0)
False
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from outrider_agent.supervisor.machine import Stage
from outrider_agent.supervisor.state import Execution

FIRST_S: Final = 2.0
LIMIT_S: Final = 600.0
AGAIN_S: Final = 300.0
REMEMBERED: Final = 16
FETCHING: Final = frozenset({Stage.NOTIFIED, Stage.DOWNLOADING, Stage.VERIFYING, Stage.STAGED, Stage.VALIDATING})


def sha256(envelope: bytes) -> str:
    """How an envelope is recognised."""
    return hashlib.sha256(envelope).hexdigest()


def needs_update(envelope_sha256: str, execution: Execution | None) -> bool:
    """Whether the update process must look at this envelope."""
    if execution is None or execution.envelope_sha256 != envelope_sha256:
        return True
    return execution.stage in FETCHING


@dataclass
class _Try:
    count: int = 0
    refused_s: float | None = None
    error: str = ""


class Tries:
    """What became of the last envelopes: an order of the broker's and a carried one may fail in turn."""

    def __init__(self) -> None:
        self._known: dict[str, _Try] = {}

    def failed(self, envelope_sha256: str, now_s: float, *, final: bool) -> float | None:
        """Record a failure; return the wait in seconds before the next try, None for none."""
        one = self._known.pop(envelope_sha256, _Try())
        self._known[envelope_sha256] = one
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        one.refused_s = now_s if final else None
        if final:
            return None
        one.count = min(one.count + 1, 16)
        return min(LIMIT_S, FIRST_S * 2.0 ** (one.count - 1))

    def refused(self, envelope_sha256: str, now_s: float) -> bool:
        """Whether this very envelope was refused a short while ago."""
        one = self._known.get(envelope_sha256)
        return one is not None and one.refused_s is not None and now_s - one.refused_s < AGAIN_S

    def is_news(self, envelope_sha256: str, error: str) -> bool:
        """Whether this failure of this envelope was not reported yet."""
        one = self._known.get(envelope_sha256, _Try())
        news, one.error = error != one.error, error
        return news
