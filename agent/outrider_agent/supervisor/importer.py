"""Takes in one order from a folder while no supervisor runs: the same machine and the same update process.

1. It holds the agent's lock: no supervisor starts meanwhile, and none runs.
2. It goes as far as the committed artifact (*activating*, or *shadowing* where the order says so): the supervisor takes
   it from there at its next start.
3. Killed at any point, it leaves what a killed supervisor leaves: the next start, or the next import, goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from outrider_agent.config import Config
from outrider_agent.durable import Durable
from outrider_agent.outbox.store import Outbox
from outrider_agent.paths import Paths
from outrider_agent.supervisor.desired_file import DesiredFile
from outrider_agent.supervisor.executions import now_ms
from outrider_agent.supervisor.journal import Journal
from outrider_agent.supervisor.lock import only_agent
from outrider_agent.supervisor.loop import Loop
from outrider_agent.supervisor.machine import ENDS, Event
from outrider_agent.supervisor.orders import Orders
from outrider_agent.supervisor.process import prepare
from outrider_agent.supervisor.relay import UpdateRelay
from outrider_agent.supervisor.runner import Runner
from outrider_agent.supervisor.settings import update_settings
from outrider_agent.supervisor.state import Execution, StateFile, UpdateState
from outrider_protocol.messages import ExecutionReport

Told = Callable[[dict[str, Any]], None]


class _NoBroker:
    """Nobody to subscribe with."""

    def subscribe(self, filters: Iterable[str]) -> None:
        del filters

    def unsubscribe(self, filters: Iterable[str]) -> None:
        del filters


class _NothingRuns:
    """The runner's actions where no worker runs: reports are kept for later, the rest is the next start's."""

    def __init__(self, loop: Loop, journal: Journal) -> None:
        self._loop, self._journal = loop, journal
        self.runner: Runner
        self.orders: Orders

    def report(self, body: ExecutionReport) -> None:
        self._journal.execution(body)
        if self.runner.execution is not None and self.runner.execution.stage in ENDS:
            self._loop.call_later(0.0, self.orders.take_next)

    def await_order(self) -> None:
        return

    def stop_update(self) -> None:
        return

    def start_shadow(self, execution: Execution) -> None:
        del execution

    def stop_shadow(self) -> None:
        return

    def start_candidate(self, execution: Execution) -> None:
        del execution

    def swap(self, execution: Execution) -> None:
        del execution

    def promote(self, state: UpdateState) -> None:
        del state

    def roll_back(self, state: UpdateState, *, keep_without_current: bool) -> None:
        del state, keep_without_current
        self._loop.call_later(0.0, self._rolled_back)

    def _rolled_back(self) -> None:
        self.runner.offer(Event.ROLLBACK_DONE)

    def discard_candidate(self, state: UpdateState) -> None:
        del state


def take_in(paths: Paths, config: Config, envelope: bytes, folder: str, told: Told) -> dict[str, Any]:
    """Work on one order to its end; returns the last news. Raises `ConfigError` where an agent runs here."""
    with only_agent(paths.lock):
        prepare(paths, Durable())
        return _take_in(paths, config, envelope, folder, told)


def _take_in(paths: Paths, config: Config, envelope: bytes, folder: str, told: Told) -> dict[str, Any]:
    loop, disk = Loop(), Durable()
    outbox = Outbox.open(paths.outbox, config.telemetry.outbox_bytes)
    journal = Journal(lambda: outbox, now_ms, lambda: None)
    actions = _NothingRuns(loop, journal)
    runner = actions.runner = Runner(StateFile(paths.update, disk), actions)
    relay = UpdateRelay(loop, _NoBroker())
    kept, returns_to = DesiredFile(paths.desired, disk), runner.state.current is not None
    orders = Orders(loop, runner, relay, journal, kept, lambda: returns_to, update_settings(config))
    actions.orders = orders
    last: dict[str, Any] = {}

    def hear(_envelope: bytes, news: dict[str, Any]) -> None:
        told(news)
        if news.get("ended"):
            last.update(news)
            loop.stop()

    orders.news = hear
    orders.imported(envelope, folder)
    if not last:
        loop.run()
    relay.stop()
    while relay.is_leaving:
        loop.run_once(0.1)
    outbox.commit()
    outbox.close()
    loop.close()
    return last
