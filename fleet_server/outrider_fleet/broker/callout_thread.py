"""The callout in a thread and event loop of its own, so that a busy web server never keeps devices waiting.

1. `admit` and `key_of` of the callout are called in this thread.
2. `revoke` and `kick` may be called from any thread and block until done.

    thread = CalloutThread(Callout(broker.nats_url, broker.credentials, admit))
    thread.start()
    thread.revoke("dev-1")
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from outrider_fleet.broker.callout import Callout
from outrider_fleet.broker.errors import CalloutError

T = TypeVar("T")
TIMEOUT_S: Final = 20.0


class CalloutThread:
    """Runs one `Callout`."""

    def __init__(self, callout: Callout) -> None:
        self._callout = callout
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="callout", daemon=True)

    def start(self) -> None:
        """Start and connect; raises `CalloutError`."""
        self._thread.start()
        try:
            self._run(self._callout.start())
        except CalloutError:
            self._end()
            raise

    def stop(self) -> None:
        """Disconnect and end the thread."""
        self._run(self._callout.stop())
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def revoke(self, device: str) -> int:
        """End a device's sessions for good (`Callout.revoke`); returns how many ended."""
        return self._run(self._callout.revoke(device))

    def kick(self, device: str) -> int:
        """End a device's sessions; returns how many ended."""
        return self._run(self._callout.kick(device))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT_S)
        except TimeoutError as error:
            raise CalloutError(f"no answer within {TIMEOUT_S:g} s") from error
