"""When a candidate's shadowing or probation is over: pure.

1. Shadowing ends once `shadow_windows` were compared, or when this device has drifted: a drifted device's disagreement
   says nothing about the candidate, so it is reported and not judged.
2. Probation is passed when the worker attests the candidate's digest and has answered `probation_windows` real
   inferences (at least one).
3. Without enough of them after `probation_s` the device says `no_traffic`, once: neither success nor failure.

>>> judge_shadow(Shadow(n=50, disagree=30), Limits.of({"shadow_windows": 50, "shadow_disagreement_max": 0.3}), False)
<Event.SHADOW_DISAGREED: 'shadow_disagreed'>
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outrider_agent.supervisor.machine import Event
from outrider_protocol.manifest import PARAMETERS


@dataclass(frozen=True)
class Limits:
    """The parameters of an order, with their defaults."""

    shadow_windows: int
    shadow_disagreement_max: float
    probation_windows: int
    probation_s: float

    @classmethod
    def of(cls, parameters: Mapping[str, float]) -> Limits:
        """From an execution's parameters."""
        value = {name: parameters.get(name, declared.default) for name, declared in PARAMETERS.items()}
        return cls(
            int(value["shadow_windows"]),
            value["shadow_disagreement_max"],
            int(value["probation_windows"]),
            value["probation_s"],
        )


@dataclass(frozen=True)
class Shadow:
    """What the shadow worker has compared so far."""

    n: int = 0
    disagree: int = 0
    dropped: int = 0

    @property
    def ratio(self) -> float:
        """The part of the windows with another class."""
        return self.disagree / self.n if self.n else 0.0


def judge_shadow(shadow: Shadow, limits: Limits, drifted: bool) -> Event | None:
    """The event that ends shadowing, or None while it goes on."""
    if drifted:
        return Event.SHADOW_AGREED
    if shadow.n < limits.shadow_windows:
        return None
    return Event.SHADOW_DISAGREED if shadow.ratio > limits.shadow_disagreement_max else Event.SHADOW_AGREED


def judge_probation(
    attested: bool, answered: int, elapsed_s: float, limits: Limits, said_no_traffic: bool
) -> Event | None:
    """The event that probation has brought, or None."""
    if attested and answered >= max(1, limits.probation_windows):
        return Event.PROBATION_PASSED
    if elapsed_s >= limits.probation_s and not said_no_traffic:
        return Event.NO_TRAFFIC
    return None
