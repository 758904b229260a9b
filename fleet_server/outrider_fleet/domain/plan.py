"""What a rollout was asked to do: phases, gates, parameters. Parsed once, refused as a whole.

1. A phase bounds how many devices are exposed **in total** once it is entered, by number or by percentage.
2. Bounds never shrink from one phase to the next.
3. Unknown fields and unknown gates are refused.

>>> plan = parse({"phases": [{"name": "canary", "max_devices": 2}, {"name": "all", "percent": 100}]})
>>> [phase.bound(8) for phase in plan.phases]
[2, 8]
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from outrider_fleet.domain import gates
from outrider_fleet.domain.gates import Gate
from outrider_fleet.errors import InvalidRequestError

DAY_S: Final = 86_400
_FIELDS: Final = {"phases", "gates", "parameters", "execution_timeout_s"}
_PHASE_FIELDS: Final = {"name", "max_devices", "percent", "soak_s"}


@dataclass(frozen=True)
class Phase:
    """One phase: at most `max_devices`, or `percent` of the group, exposed in total; `soak_s` before the next."""

    name: str
    max_devices: int | None = None
    percent: float | None = None
    soak_s: float = 0.0

    def bound(self, total: int) -> int:
        """How many of `total` devices may be exposed in all."""
        if self.max_devices is not None:
            return min(self.max_devices, total)
        return min(total, max(1, math.floor(total * (self.percent or 0.0) / 100)))


@dataclass(frozen=True)
class Plan:
    """The whole of it; `parameters` go into every order."""

    phases: tuple[Phase, ...]
    gates: tuple[Gate, ...] = ()
    parameters: dict[str, float] = field(default_factory=dict)
    execution_timeout_s: float = DAY_S

    @property
    def shadows(self) -> bool:
        """Whether a shadow gate is set."""
        return any(gate.name == "shadow" for gate in self.gates)


def parse(value: Mapping[str, Any]) -> Plan:
    """Read the JSON form; raises `InvalidRequestError` or `GateError`."""
    _known(value, _FIELDS, "rollout")
    phases = tuple(_phase(item, number) for number, item in enumerate(_listed(value.get("phases"))))
    if not phases:
        raise InvalidRequestError("a rollout has at least one phase")
    _check_growth(phases)
    return Plan(
        phases,
        gates.parse(_mapping(value.get("gates", {}), "gates")),
        {name: _number(number, name) for name, number in _mapping(value.get("parameters", {}), "parameters").items()},
        _number(value.get("execution_timeout_s", DAY_S), "execution_timeout_s", low=1),
    )


def _phase(value: Any, number: int) -> Phase:
    fields = _mapping(value, f"phases[{number}]")
    _known(fields, _PHASE_FIELDS, f"phases[{number}]")
    if ("max_devices" in fields) == ("percent" in fields):
        raise InvalidRequestError(f"phases[{number}]: give either max_devices or percent")
    return Phase(
        str(fields.get("name", f"phase {number + 1}"))[:64],
        int(_number(fields["max_devices"], "max_devices", low=1)) if "max_devices" in fields else None,
        _number(fields["percent"], "percent", high=100) if "percent" in fields else None,
        _number(fields.get("soak_s", 0), "soak_s"),
    )


def _check_growth(phases: tuple[Phase, ...]) -> None:
    for name in ("max_devices", "percent"):
        bounds = [getattr(phase, name) for phase in phases if getattr(phase, name) is not None]
        if bounds != sorted(bounds):
            raise InvalidRequestError(f"phases: {name} shrinks from one phase to the next")


def _known(value: Mapping[str, Any], names: set[str], what: str) -> None:
    unknown = sorted(set(value) - names)
    if unknown:
        raise InvalidRequestError(f"{what}: unknown field {unknown[0][:40]!r}")


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > 64:
        raise InvalidRequestError("phases: a list of at most 64 is expected")
    return value


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"{what}: an object is expected")
    return value


def _number(value: Any, what: str, *, low: float = 0.0, high: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or value == math.inf:
        raise InvalidRequestError(f"{what}: {value!r} is not a number within {low}..{high}")
    return value
