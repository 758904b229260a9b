"""Every figure of every candidate of one profile.

1. Quality is compared with the source model on the evaluation set, which calibration has not seen.
2. Latency is interleaved, in the profile's load mode, one thread.
3. A candidate that the engine does not load is a refusal of the profile where it is fp32, else a reason not to use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from outrider_compiler import engines, latency, quality
from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.data import Array, Feeds
from outrider_compiler.errors import UnsupportedModelError
from outrider_compiler.host import Host, proxy_reason
from outrider_compiler.operators import quantized_share
from outrider_profiles import Profile

BASELINE = "fp32"


@dataclass(frozen=True)
class Truth:
    """The evaluation set as the source model answers it: `outputs` by name, `y` [N], and which output decides."""

    feeds: Feeds
    outputs: Feeds
    y: Array
    probabilities: str
    compared: tuple[str, ...]


@dataclass(frozen=True)
class Figures:
    """Measured figures of one candidate. `sqnr_db` per output; `proxy` is '' or why the latency is only a proxy."""

    name: str
    precision: str
    size_bytes: int
    load_ms: float
    latency_us: float
    latency_p10_us: float
    latency_p90_us: float
    latency_ratio: float
    accuracy: float
    balanced_accuracy: float
    agreement: float
    sqnr_db: dict[str, float]
    quantized_share: float
    n: int
    proxy: str = ""

    def json(self) -> dict[str, Any]:
        """As it stands in the lock and in report.json."""
        return dict(vars(self))


def measure(
    candidates: list[Candidate], profile: Profile, truth: Truth, host: Host
) -> tuple[list[Figures], list[NotBuilt]]:
    """Figures of each candidate that loads, and why the others do not; raises `UnsupportedModelError` for fp32."""
    runners: dict[str, engines.Runner] = {}
    failed: list[NotBuilt] = []
    for candidate in candidates:
        try:
            runners[candidate.name] = engines.load(candidate, profile.load)
        except UnsupportedModelError as error:
            if candidate.name == BASELINE:
                raise
            failed.append(NotBuilt(candidate.name, str(error)))
    one = engines.rows(truth.feeds, 0, engines.batch_of(next(iter(runners.values()))))
    timed = latency.interleaved({name: _once(runner, one) for name, runner in runners.items()}, BASELINE)
    loaded = [candidate for candidate in candidates if candidate.name in runners]
    return [_figures(c, runners[c.name], timed[c.name], truth, profile, host) for c in loaded], failed


def _once(runner: engines.Runner, one: Feeds) -> latency.Run:
    return lambda: runner.once(one)


def _figures(
    candidate: Candidate, runner: engines.Runner, timed: latency.Latency, truth: Truth, profile: Profile, host: Host
) -> Figures:
    outputs = runner.run(truth.feeds)
    probabilities = outputs[truth.probabilities]
    return Figures(
        name=candidate.name,
        precision=candidate.precision,
        size_bytes=len(candidate.data),
        load_ms=round(runner.load_ms, 3),
        latency_us=timed.median_us,
        latency_p10_us=timed.p10_us,
        latency_p90_us=timed.p90_us,
        latency_ratio=timed.ratio,
        accuracy=round(quality.accuracy(probabilities, truth.y), 5),
        balanced_accuracy=round(quality.balanced_accuracy(probabilities, truth.y), 5),
        agreement=round(quality.agreement(truth.outputs[truth.probabilities], probabilities), 5),
        sqnr_db={name: round(quality.sqnr_db(truth.outputs[name], outputs[name]), 2) for name in truth.compared},
        quantized_share=quantized_share(candidate),
        n=len(truth.y),
        proxy=proxy_reason(host, profile, candidate.precision),
    )
