"""Work that time asks for, in a thread of its own, until it is stopped.

1. A failure is logged and tried again at the next turn, whatever it is: the database holds all state.
2. Works that share a turn do not depend on each other: one that fails keeps none of the others from its own.
3. `wake` makes the next turn come at once.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from outrider_fleet.errors import FleetError
from outrider_protocol.errors import ProtocolError

_log: Final = logging.getLogger(__name__)


class Periodic:
    """Calls each of `works` every `interval_s` seconds."""

    def __init__(self, name: str, interval_s: float, *works: Callable[[], object]) -> None:
        self._name, self._interval_s, self._works = name, interval_s, works
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first turn comes at once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present turn."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """Do not wait for the interval."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for work in self._works:
                self._do(work)
            self._wake.wait(self._interval_s)
            self._wake.clear()

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except (FleetError, ProtocolError, SQLAlchemyError, OSError) as error:
            _log.warning("%s: %s: %s", self._name, type(error).__name__, error)
        except Exception:  # noqa: BLE001 - what nobody thought of must not end the work for good
            _log.exception("%s", self._name)
