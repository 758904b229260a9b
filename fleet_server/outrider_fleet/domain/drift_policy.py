"""When drift is worth a training run: fleet-wide, with labels to learn from, and not too often.

1. A run needs `min_devices` devices with an opinion, at least `min_alarmed` of them and `min_share` in alarm.
2. Estimated harm = reference accuracy − mean estimated accuracy of the alarmed devices. It informs whoever reads the
   decision and stops nothing: docs/adr/0008.
3. `cooldown_s` lies between two runs of a model, and nothing starts while one is at work.
4. At least `min_labels` labelled samples are there to learn from.
5. A single device in alarm among enough others gets a maintenance event instead.

>>> policy = DriftPolicy(min_share=0.3, min_devices=4, min_alarmed=2)
>>> fleet = [DeviceDrift(f"d{i}", alarmed=i < 3, estimated_accuracy=0.4 if i < 3 else None) for i in range(8)]
>>> decide(policy, fleet, Circumstances(reference_accuracy=0.85, labels=100)).outcome
<Outcome.RUN: 'run'>
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import Enum, unique
from typing import Any, Final

from outrider_fleet.errors import InvalidRequestError
from outrider_protocol import limits

_RATIOS: Final = frozenset({"min_share", "min_accuracy", "confidence"})


@unique
class Outcome(Enum):
    """What follows from the fleet's drift."""

    NOTHING = "nothing"
    WAIT = "wait"
    RUN = "run"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True)
class DriftPolicy:
    """Thresholds; `min_share` within 0..1."""

    min_share: float = 0.3
    min_devices: int = 4
    min_alarmed: int = 2
    cooldown_s: float = 86_400.0
    min_labels: int = 20

    def json(self) -> dict[str, float]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> "DriftPolicy":
        """Read the JSON form; raises `InvalidRequestError`."""
        return cls(**numbers(cls, value, "drift"))


def numbers(kind: type[Any], value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The fields of a dataclass of non-negative numbers, ratios within 0..1; raises `InvalidRequestError`."""
    known = {field.name: field.type for field in fields(kind)}
    for name, number in value.items():
        whole = known.get(name) is int
        if name not in known or isinstance(number, bool) or not isinstance(number, int if whole else int | float):
            raise InvalidRequestError(f"{what}.{name[:40]}: unknown, or not a number")
        highest = 1 if name in _RATIOS else limits.SEQ_MAX
        if not 0 <= number <= highest:
            raise InvalidRequestError(f"{what}.{name}: {number!r:.40} is not within 0..{highest}")
    return dict(value)


@dataclass(frozen=True)
class DeviceDrift:
    """One device that has a baseline and therefore an opinion."""

    device: str
    alarmed: bool
    estimated_accuracy: float | None = None


@dataclass(frozen=True)
class Circumstances:
    """What else counts; `last_run_ms` is when the model's latest run was created."""

    reference_accuracy: float | None = None
    labels: int = 0
    last_run_ms: int | None = None
    running: bool = False
    now_ms: int = 0


@dataclass(frozen=True)
class Decision:
    """The outcome, its sentence and the figures behind it."""

    outcome: Outcome
    why: str
    share: float = 0.0
    watched: int = 0
    alarmed: tuple[str, ...] = ()
    estimated_harm: float | None = None

    def reason(self) -> dict[str, Any]:
        """What is recorded with a run."""
        return {
            "why": self.why,
            "share": round(self.share, 4),
            "watched": self.watched,
            "alarmed": len(self.alarmed),
            "devices": list(self.alarmed),
            "estimated_harm": None if self.estimated_harm is None else round(self.estimated_harm, 4),
        }


def decide(policy: DriftPolicy, fleet: Sequence[DeviceDrift], now: Circumstances) -> Decision:
    """Decide for one model from the devices that watch it."""
    alarmed = tuple(sorted(item.device for item in fleet if item.alarmed))
    share = len(alarmed) / len(fleet) if fleet else 0.0
    harm = _harm(fleet, now.reference_accuracy)
    outcome, why = _outcome(policy, len(fleet), len(alarmed), now)
    return Decision(outcome, f"{why}{_harm_words(harm)}" if alarmed else why, share, len(fleet), alarmed, harm)


def _harm(fleet: Sequence[DeviceDrift], reference: float | None) -> float | None:
    estimates = [item.estimated_accuracy for item in fleet if item.alarmed and item.estimated_accuracy is not None]
    return None if reference is None or not estimates else reference - sum(estimates) / len(estimates)


def _outcome(policy: DriftPolicy, watched: int, alarmed: int, now: Circumstances) -> tuple[Outcome, str]:
    seen = f"{alarmed} of {watched} devices in alarm"
    if not alarmed:
        return Outcome.NOTHING, seen
    if watched < policy.min_devices:
        return (
            Outcome.WAIT,
            f"{seen}: {policy.min_devices} must have a baseline before the fleet can be judged",
        )
    if alarmed == 1:
        return Outcome.MAINTENANCE, f"{seen}: a lone deviating device is looked at, the fleet is not retrained"
    if alarmed < policy.min_alarmed or alarmed / watched < policy.min_share:
        return Outcome.WAIT, f"{seen}: below {policy.min_alarmed} devices or a share of {policy.min_share:.0%}"
    return _now_or_later(policy, seen, now)


def _harm_words(harm: float | None) -> str:
    return "; harm unknown" if harm is None else f"; estimated harm {harm * 100:.0f} points"


def _now_or_later(policy: DriftPolicy, seen: str, now: Circumstances) -> tuple[Outcome, str]:
    if now.running:
        return Outcome.WAIT, f"{seen}: a training run is at work already"
    if now.last_run_ms is not None and now.now_ms - now.last_run_ms < policy.cooldown_s * 1000:
        return Outcome.WAIT, f"{seen}: within {policy.cooldown_s:.0f} s of the latest run"
    if now.labels < policy.min_labels:
        return Outcome.WAIT, f"{seen}: {now.labels} labelled samples, {policy.min_labels} are needed"
    return Outcome.RUN, seen
