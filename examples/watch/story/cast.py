"""Who plays in the story: the server, the devices, the release pipeline, the saboteur, and who tells it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from examples.watch.story.devices import Devices
from examples.watch.story.fleet import Fleet
from examples.watch.story.plan import Plan
from examples.watch.story.processes import Processes, eventually
from examples.watch.story.releases import Releases
from examples.watch.story.saboteur import Saboteur
from examples.watch.story.telling import Teller

T = TypeVar("T")


@dataclass(frozen=True)
class Cast:
    """Everything that a run needs."""

    plan: Plan
    processes: Processes
    fleet: Fleet
    devices: Devices
    releases: Releases
    saboteur: Saboteur
    tell: Teller
    pool: ThreadPoolExecutor

    @classmethod
    def of(cls, plan: Plan, processes: Processes, pool: ThreadPoolExecutor) -> Cast:
        """Everyone in place, nothing started yet."""
        saboteur = Saboteur(plan)
        return cls(
            plan,
            processes,
            Fleet(plan, processes),
            Devices(plan, processes, saboteur.sampled()),
            Releases(plan, saboteur.profiles()),
            saboteur,
            Teller(),
            pool,
        )

    def wait(self, look: Callable[[], T | None], what: str, timeout_s: float, pause_s: float = 0.1) -> T:
        """`eventually`, while every process lives. Raises `StageError`."""

        def looked() -> T | None:
            self.processes.check()
            return look()

        return eventually(looked, what, timeout_s, pause_s)

    def wait_drained(self, devices: list[str], timeout_s: float) -> None:
        """Until the server has acknowledged everything that these devices recorded."""
        self.wait(lambda: all(self.devices.waiting(name) == 0 for name in devices), "outboxes are empty", timeout_s)
