"""What of one stream is on its way: pure.

1. At most `window` batches wait for their ack.
2. On a new connection, and when no ack came for `timeout_s`, sending starts again after the last ack: an ack is the
   server's commit, and nothing else proves arrival.
3. An ack for what was never sent in this connection is welcome.

>>> flight = Flight(window=2, timeout_s=10.0)
>>> flight.connected(now_s=0.0)
>>> flight.plan(acked=4, now_s=0.0)
(4, 2)
>>> flight.sent(5, now_s=0.0)
>>> flight.sent(6, now_s=0.0)
>>> flight.plan(acked=4, now_s=1.0), flight.plan(acked=4, now_s=11.0)
((6, 0), (4, 2))
"""

from __future__ import annotations

from collections import deque


class Flight:
    """The sending window of one stream."""

    def __init__(self, window: int, timeout_s: float) -> None:
        self._window, self._timeout_s = window, timeout_s
        self._waiting: deque[int] = deque()
        self._last_s = 0.0

    def connected(self, now_s: float) -> None:
        """Nothing that was sent before counts."""
        self._waiting.clear()
        self._last_s = now_s

    def sent(self, seq: int, now_s: float) -> None:
        """`seq` was handed to the connection."""
        if not self._waiting:
            self._last_s = now_s
        self._waiting.append(seq)

    def acked(self, seq: int, now_s: float) -> None:
        """The server has committed up to `seq`."""
        while self._waiting and self._waiting[0] <= seq:
            self._waiting.popleft()
            self._last_s = now_s

    def plan(self, acked: int, now_s: float) -> tuple[int, int]:
        """Return (send what is above this sequence, at most so many)."""
        if self._waiting and now_s - self._last_s > self._timeout_s:
            self.connected(now_s)
        after = self._waiting[-1] if self._waiting else acked
        return max(after, acked), self._window - len(self._waiting)

    @property
    def waiting(self) -> int:
        """How many batches wait for their ack."""
        return len(self._waiting)
