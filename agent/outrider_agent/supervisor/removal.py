"""The end of a device: a verified order to erase it is carried out, and survives every interruption.

1. The order becomes durable first; a restart goes on where the last process stopped.
2. Models go first: workers end, artifacts, downloads and the detector's memory are deleted.
3. Then the server is told (`removed`) and given time to acknowledge it, while there are still keys to say so with.
4. Then all else under `var` goes: keys and certificate first, the order last. agent.toml, which people write, stays.
5. A device whose agent.toml says `erasable = false` refuses, aloud.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, Final

from outrider_agent.durable import Durable
from outrider_agent.outbox.store import Outbox
from outrider_agent.paths import Paths
from outrider_agent.supervisor.journal import Journal
from outrider_agent.supervisor.loop import Loop
from outrider_agent.supervisor.workers import Workers
from outrider_protocol.execution import State
from outrider_protocol.messages import ExecutionReport

_LOG: Final = logging.getLogger(__name__)
LOOK_S: Final = 0.1
GRACE_S: Final = 5.0
ACK_S: Final = 60.0


class Removal:
    """Carries one order out; `leave` ends the supervisor."""

    def __init__(
        self,
        loop: Loop,
        paths: Paths,
        workers: Workers,
        journal: Journal,
        outbox: Callable[[], Outbox],
        leave: Callable[[], None],
    ) -> None:
        self._loop, self._paths, self._workers = loop, paths, workers
        self._journal, self._outbox, self._leave = journal, outbox, leave
        self._disk = Durable()
        self.order: dict[str, Any] | None = read(paths)

    def begin(self, order: dict[str, Any]) -> None:
        """The update process has verified it."""
        if self.order is None:
            self._disk.write(self._paths.removal, json.dumps(order).encode())
            self.order = order
            self.resume()

    def resume(self) -> None:
        """Go on with what was begun."""
        _LOG.warning("this device is being erased: %s", self.order)
        self._workers.stop(GRACE_S)
        self._until(lambda: not self._workers.any_alive, GRACE_S + 1, self._erase_models)

    def _erase_models(self) -> None:
        for directory in (self._paths.artifacts, self._paths.downloads, self._paths.var / "drift"):
            self._disk.remove_tree(directory)
        if self.order:
            self._journal.execution(ExecutionReport.read({**self.order, "state": State.REMOVED.value, "detail": {}}))
        self._until(lambda: not self._outbox().counts()["event"], ACK_S, self._leave)

    def _until(self, done: Callable[[], bool], left_s: float, then: Callable[[], None]) -> None:
        if done() or left_s <= 0:
            then()
        else:
            self._loop.call_later(LOOK_S, lambda: self._until(done, left_s - LOOK_S, then))


def read(paths: Paths) -> dict[str, Any] | None:
    """The order that is being carried out, None without one; one that cannot be read counts as well."""
    try:
        value = json.loads(paths.removal.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def erase(paths: Paths, disk: Durable) -> None:
    """Everything that the agent keeps, keys first; nothing of it may be open. May be called again."""
    if paths.identity.is_dir():
        disk.remove(paths.identity / "device.key")
    for path in sorted(paths.var.iterdir()):
        if path.is_dir():
            disk.remove_tree(path)
        elif path not in {paths.removal, paths.lock}:
            disk.remove(path)
    for path in sorted(paths.run.glob("*.sock")):
        disk.remove(path)
    disk.remove(paths.removal)
