"""The supervisor's single-threaded loop: descriptors that are ready, and timers.

1. Everything but the broker's socket happens in this thread: no locks.
2. `wake` may be called from any thread or signal handler.
3. Time comes from the `clock` it was given (seconds, monotonic).
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import time
from collections.abc import Callable
from typing import Protocol

Callback = Callable[[], None]


class HasFileno(Protocol):
    """What a selector takes."""

    def fileno(self) -> int: ...


class Timer:
    """One pending call; `cancel` undoes it."""

    def __init__(self, callback: Callback) -> None:
        self._callback: Callback | None = callback

    def cancel(self) -> None:
        """Never call it."""
        self._callback = None

    def fire(self) -> None:
        """Call it, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Loop:
    """Readers, writers and timers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now_s = clock
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._stopping = False
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._on_wake: Callback = lambda: None
        self._selector.register(self._woken, selectors.EVENT_READ, (self._drain_wakes, None))

    def on_wake(self, callback: Callback) -> None:
        """Called in the loop after `wake`."""
        self._on_wake = callback

    def wake(self) -> None:
        """Make the loop run `on_wake` soon."""
        try:
            os.write(self._waker, b"\0")
        except BlockingIOError:
            return

    @property
    def wake_fd(self) -> int:
        """The descriptor to which `signal.set_wakeup_fd` may write."""
        return self._waker

    def watch(self, item: HasFileno, on_read: Callback, on_write: Callback | None = None) -> None:
        """Call `on_read` when readable, and `on_write` (where given) when writable."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if on_write else 0)
        try:
            self._selector.modify(item, events, (on_read, on_write))
        except KeyError:
            self._selector.register(item, events, (on_read, on_write))

    def forget(self, item: HasFileno) -> None:
        """Stop watching."""
        self._selector.unregister(item)

    def call_later(self, delay_s: float, callback: Callback) -> Timer:
        """Call once, `delay_s` from now."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.now_s() + delay_s, next(self._order), timer))
        return timer

    def call_every(self, period_s: float, callback: Callback) -> None:
        """Call again and again."""

        def again() -> None:
            self.call_later(period_s, again)
            callback()

        self.call_later(period_s, again)

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping = True
        self.wake()

    def run(self) -> None:
        """Until `stop`."""
        while not self._stopping:
            self.run_once(60.0)

    def run_once(self, limit_s: float) -> None:
        """Wait for one readiness or timer, at most `limit_s`, and serve what is due."""
        wait_s = min(limit_s, self._timers[0][0] - self.now_s()) if self._timers else limit_s
        for key, events in self._selector.select(max(0.0, wait_s)):
            on_read, on_write = key.data
            if events & selectors.EVENT_WRITE and on_write is not None:
                on_write()
            if events & selectors.EVENT_READ:
                on_read()
        while self._timers and self._timers[0][0] <= self.now_s():
            heapq.heappop(self._timers)[2].fire()

    def close(self) -> None:
        """Release the descriptors."""
        self._selector.close()
        os.close(self._woken)
        os.close(self._waker)

    def _drain_wakes(self) -> None:
        while True:
            try:
                if len(os.read(self._woken, 4096)) < 4096:
                    break
            except BlockingIOError:
                break
        self._on_wake()
