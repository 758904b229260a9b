"""What the HTTP interface is made with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from outrider_fleet.app.fleet import Fleet


def _nobody(_device: str) -> int:
    return 0


def _nothing(_device: str) -> None:
    return None


def _healthy() -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Services:
    """The fleet; `end_sessions(device)` ends live sessions of a revoked device, `allow(device)` lets it in again.

    `health` says how the parts are.
    """

    fleet: Fleet
    end_sessions: Callable[[str], int] = _nobody
    allow: Callable[[str], None] = _nothing
    health: Callable[[], dict[str, Any]] = _healthy
