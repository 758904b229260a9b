"""Tells listeners (open pages) what kind of thing has changed; they read it again by themselves.

1. A listener that does not listen loses nothing but repetitions: what changed is a set.
2. `tell` may be called from any thread and never waits.
"""

import asyncio
import threading
from collections.abc import Iterable


class Listener:
    """One open page; lives in one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._changed, self._ready = loop, set[str](), asyncio.Event()

    def tell(self, changed: set[str]) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._take, changed)

    def _take(self, changed: set[str]) -> None:
        self._changed |= changed
        self._ready.set()

    async def next(self) -> list[str]:
        """Wait for the next change and return the kinds of it."""
        await self._ready.wait()
        self._ready.clear()
        changed, self._changed = sorted(self._changed), set()
        return changed


class Bus:
    """All listeners."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: set[Listener] = set()

    def listen(self) -> Listener:
        """A new listener in the running event loop."""
        listener = Listener(asyncio.get_running_loop())
        with self._lock:
            self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget a listener."""
        with self._lock:
            self._listeners.discard(listener)

    def tell(self, changed: Iterable[str]) -> None:
        """Tell everybody; no change, no message."""
        what = set(changed)
        if not what:
            return
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.tell(what)
