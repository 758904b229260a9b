"""Every figure of every candidate of one profile.

1. Quality is compared with the source model on the evaluation set, which calibration has not seen.
2. Latency is interleaved, in the profile's load mode: on one thread, and on as many as the profile has (as far as this
   machine has them).
3. A candidate that the engine does not load is a refusal of the profile where it is fp32, else a reason not to use it.
4. Timings that were measured on the board itself (`measured`) take the place of this machine's.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Final

from outrider_compiler import engines, latency, memory, operators, slices
from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.data import Array, Feeds
from outrider_compiler.errors import UnsupportedModelError
from outrider_compiler.figures import Figures, Quality, Timing
from outrider_compiler.host import Host, proxy_reason
from outrider_compiler.measured import Measured
from outrider_compiler.metrics import Task
from outrider_compiler.progress import Step, uncounted
from outrider_compiler.quality import sqnr_db
from outrider_profiles import Profile

BASELINE: Final = "fp32"
THREADS_BUDGET_S: Final = 1.0


@dataclass(frozen=True)
class Truth:
    """The evaluation set as the source model answers it: `outputs` by name, `y`, which output decides, the task."""

    feeds: Feeds
    outputs: Feeds
    y: Array
    deciding: str
    compared: tuple[str, ...]
    task: Task
    slices: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """Candidates that the engine took, with their runners; `failed` says why it did not take the others."""

    candidates: list[Candidate]
    runners: dict[str, engines.Runner]
    failed: list[NotBuilt]


def measure(
    candidates: list[Candidate],
    profile: Profile,
    truth: Truth,
    host: Host,
    measured: Measured | None = None,
    step: Step = uncounted,
) -> tuple[list[Figures], list[NotBuilt]]:
    """Figures of each candidate that loads, and why the others do not; raises `UnsupportedModelError` for fp32."""
    loaded = load(candidates, profile)
    timings = time_all(loaded, profile, truth.feeds, host)
    if measured is not None:
        timings = {c.name: measured.timing(sha256(c), timings[c.name]) for c in loaded.candidates}
    figures: list[Figures] = []
    for candidate in loaded.candidates:
        step(len(figures), len(loaded.candidates))
        runner, timing = loaded.runners[candidate.name], timings[candidate.name]
        figures.append(_figures(candidate, runner, timing, truth, profile))
    return figures, loaded.failed


def load(candidates: list[Candidate], profile: Profile) -> Loaded:
    """Load every candidate on one thread; raises `UnsupportedModelError` for fp32."""
    found = Loaded([], {}, [])
    for candidate in candidates:
        try:
            found.runners[candidate.name] = _open(candidate, profile, 1)
            found.candidates.append(candidate)
        except UnsupportedModelError as error:
            if candidate.name == BASELINE:
                raise
            found.failed.append(NotBuilt(candidate.name, str(error)))
    return found


def time_all(loaded: Loaded, profile: Profile, feeds: Feeds, host: Host) -> dict[str, Timing]:
    """Timings by candidate; `feeds` are samples, of which the first few are used."""
    one = engines.rows(feeds, 0, engines.batch_of(next(iter(loaded.runners.values()))))
    first_us = {name: latency.timed(_once(runner, one)) for name, runner in loaded.runners.items()}
    single = latency.interleaved({name: _once(runner, one) for name, runner in loaded.runners.items()}, BASELINE)
    threads = min(profile.threads, os.cpu_count() or 1)
    many = _with_threads(loaded, profile, one, threads) if threads > 1 else single
    budget = profile.budgets.memory_bytes > 0
    return {
        c.name: Timing(
            load_ms=round(loaded.runners[c.name].load_ms, 3),
            first_us=round(first_us[c.name], 1),
            latency_us=single[c.name].median_us,
            latency_p10_us=single[c.name].p10_us,
            latency_p90_us=single[c.name].p90_us,
            latency_ratio=single[c.name].ratio,
            threads=threads,
            threads_latency_us=many[c.name].median_us,
            threads_latency_ratio=many[c.name].ratio,
            histogram=single[c.name].histogram,
            memory_bytes=memory.resident(c, profile) if budget else 0,
            proxy=proxy_reason(host, profile, c.precision),
            measured_on=host.words(profile.engine.name),
        )
        for c in loaded.candidates
    }


def _with_threads(loaded: Loaded, profile: Profile, one: Feeds, threads: int) -> dict[str, latency.Latency]:
    runners = {c.name: _open(c, profile, threads) for c in loaded.candidates}
    runs = {name: _once(runner, one) for name, runner in runners.items()}
    return latency.interleaved(runs, BASELINE, budget_s=THREADS_BUDGET_S)


def _open(candidate: Candidate, profile: Profile, threads: int) -> engines.Runner:
    return engines.load(candidate, profile.load, threads, engines.providers_here(profile))


def _once(runner: engines.Runner, one: Feeds) -> latency.Run:
    return lambda: runner.once(one)


def _figures(candidate: Candidate, runner: engines.Runner, timing: Timing, truth: Truth, profile: Profile) -> Figures:
    share, fallback = operators.share_and_fallback(candidate, profile)
    return Figures(
        name=candidate.name,
        precision=candidate.precision,
        size_bytes=len(candidate.data),
        sha256=sha256(candidate),
        timing=timing,
        quality=quality_of(runner.run(truth.feeds), truth),
        quantized_share=share,
        fallback=fallback,
        recipe=candidate.recipe,
    )


def quality_of(outputs: Feeds, truth: Truth) -> Quality:
    """How a model's outputs do on the evaluation set, beside the source model's."""
    task, source, got = truth.task, truth.outputs[truth.deciding], outputs[truth.deciding]
    lost = task.drop(source, got, truth.y)
    return Quality(
        primary=task.primary,
        skilled=task.skilled,
        metrics={name: item.json() for name, item in task.figures(got, truth.y).items()},
        drop=lost.value,
        drop_low=lost.low,
        drop_upper=lost.upper,
        agreement=task.agreement(source, got),
        sqnr_db={name: round(sqnr_db(truth.outputs[name], outputs[name]), 2) for name in truth.compared},
        per_class=task.per_class(got, truth.y),
        slices=slices.figures(task, source, got, truth.y, truth.slices),
    )


def sha256(candidate: Candidate) -> str:
    """Of the candidate's file, in hex: how a timing of another machine finds it."""
    return hashlib.sha256(candidate.data).hexdigest()
