"""What an onlooker learns while a build runs.

1. `say` begins a stage, `step` says how much of it is done, `outcome` what was decided for a profile, the refused one
   that ends the build as well.
2. An onlooker changes nothing and raises nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from outrider_compiler.outcome import Outcome

Step = Callable[[int, int], None]


class Progress(Protocol):
    """An onlooker."""

    def say(self, text: str) -> None:
        """A stage begins."""

    def step(self, done: int, total: int) -> None:
        """So many parts of the stage are done."""

    def outcome(self, outcome: Outcome) -> None:
        """A profile is decided."""


class Silent:
    """Nobody looks on."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def step(self, done: int, total: int) -> None:
        """Count nothing."""

    def outcome(self, outcome: Outcome) -> None:
        """Keep nothing."""


def uncounted(done: int, total: int) -> None:
    """A `Step` that nobody counts."""
