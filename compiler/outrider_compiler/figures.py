"""What was measured of one candidate: a value object, the same in the lock and in report.json.

1. `Timing` may come from another machine (`measured_on`), `Quality` never does: outputs are compared here.
2. In JSON both lie flat beside the candidate's own fields; derived fields are written and ignored when read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final

Json = dict[str, Any]
DERIVED: Final = ("accuracy", "balanced_accuracy", "n")


@dataclass(frozen=True)
class Timing:
    """Latencies in µs of one inference; ratios to fp32 in the same run. `first_us` is the first one after loading.

    `proxy` is '' or why the latency is only a proxy; `memory_bytes` 0 where the profile has no budget for it.
    """

    load_ms: float
    first_us: float
    latency_us: float
    latency_p10_us: float
    latency_p90_us: float
    latency_ratio: float
    threads: int = 1
    threads_latency_us: float = 0.0
    threads_latency_ratio: float = 1.0
    histogram: Json = field(default_factory=dict)
    memory_bytes: int = 0
    proxy: str = ""
    measured_on: str = ""


@dataclass(frozen=True)
class Quality:
    """Against the source model on the evaluation set: `metrics` by name (`metrics.Figure`).

    `drop` is the loss of the `primary` one; `skilled` must be shown to beat its no-skill baseline.
    """

    primary: str
    skilled: str
    metrics: dict[str, Json]
    drop: float
    drop_low: float
    drop_upper: float
    agreement: float
    sqnr_db: dict[str, float]
    per_class: dict[str, Json] = field(default_factory=dict)
    slices: tuple[Json, ...] = ()


@dataclass(frozen=True)
class Figures:
    """One candidate. `fallback` names compute operators that stayed float; `layers` the SQNR layer by layer."""

    name: str
    precision: str
    size_bytes: int
    sha256: str
    timing: Timing
    quality: Quality
    quantized_share: float = 0.0
    fallback: tuple[str, ...] = ()
    layers: tuple[Json, ...] = ()
    recipe: Json = field(default_factory=dict)

    def value(self, metric: str) -> float | None:
        """A metric's value; None where the task has no such metric."""
        found = self.quality.metrics.get(metric)
        return None if found is None else float(found["value"])

    def json(self) -> Json:
        """The flat form."""
        own = {item.name: getattr(self, item.name) for item in fields(self)}
        timing, quality = vars(own.pop("timing")), vars(own.pop("quality"))
        n = next(iter(quality["metrics"].values()))["n"]
        derived = {"accuracy": self.value("accuracy"), "balanced_accuracy": self.value("balanced_accuracy"), "n": n}
        return {**own, **timing, **quality, **derived}

    @classmethod
    def of(cls, item: Json) -> Figures:
        """Read the flat form; raises `KeyError` or `TypeError`."""
        own = {name: item[name] for name in _names(cls) - {"timing", "quality"}}
        quality = {name: item[name] for name in _names(Quality)}
        for part, name in ((own, "fallback"), (own, "layers"), (quality, "slices")):
            part[name] = tuple(part[name])
        return cls(**own, timing=Timing(**{name: item[name] for name in _names(Timing)}), quality=Quality(**quality))


def _names(kind: type) -> set[str]:
    return {item.name for item in fields(kind)}
