"""Which candidate ships, and the reason in words. Pure.

1. A candidate is refused for each limit of the gate or budget that it misses, with both numbers.
2. A latency that is a proxy never decides alone: it takes a file of at most `PROXY_SIZE_RATIO` of fp32's as well, and a
   latency budget cannot be met by it.
3. Of what remains, the Pareto front over size, latency and noise; on it, the least size × latency. Where others come
   within `NEAR` of it and their timings overlap, the one of least noise.
4. Nothing but fp32 remaining means fp32, and the reason says what each other candidate measured.
5. Where workers share mapped weights, a file of smaller weights that the engine unfolds at loading is no gain.
6. A board that computes in integers alone cannot run fp32: there it is only what the others are compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from outrider_compiler import slices
from outrider_compiler.figures import Figures
from outrider_compiler.measure import BASELINE
from outrider_compiler.request import Gate
from outrider_profiles import Profile

PROXY_SIZE_RATIO: Final = 0.75
NEAR: Final = 1.05
EPSILON: Final = 1e-9
FLOATS: Final = frozenset({"fp32", "fp16"})
ON_THE_BOARD: Final = "run `outrider-compiler bench` on the board and build with --measured"


@dataclass(frozen=True)
class Choice:
    """`refusals` by candidate (empty list: admitted); `front` names the Pareto front."""

    chosen: str
    reason: str
    refusals: dict[str, list[str]]
    front: tuple[str, ...]


def choose(figures: list[Figures], gate: Gate, profile: Profile) -> Choice | None:
    """The choice, or None where not even fp32 is admitted; `figures` holds fp32."""
    base = baseline(figures)
    refusals = all_refusals(figures, gate, profile)
    admitted = [item for item in figures if not refusals[item.name]]
    if not admitted:
        return None
    front = [item for item in admitted if not any(_dominates(other, item) for other in admitted)]
    least = min(front, key=_cost)
    best = min((item for item in front if _is_near(item, least)), key=lambda item: (-_closest(item), _cost(item)))
    return Choice(best.name, _reason(best, base, figures, refusals), refusals, tuple(item.name for item in front))


def baseline(figures: list[Figures]) -> Figures:
    """fp32, with which the others are compared."""
    return next(item for item in figures if item.name == BASELINE)


def all_refusals(figures: list[Figures], gate: Gate, profile: Profile) -> dict[str, list[str]]:
    """Every limit that each candidate misses."""
    base = baseline(figures)
    return {item.name: refusals_of(item, base, gate, profile) for item in figures}


def nothing_passes(figures: list[Figures], gate: Gate, profile: Profile) -> str:
    """Why nothing may ship: what fp32 missed and, where it cannot run there at all, what the others missed."""
    base = baseline(figures)
    judged = [item for item in figures if item is not base] if profile.int8.full else [base]
    missed = [f"{item.name}: {'; '.join(refusals_of(item, base, gate, profile))}" for item in judged]
    return f"not even {judged[0].name if judged else BASELINE} passes: " + (
        " · ".join(missed) or "no integer candidate"
    )


def refusals_of(item: Figures, base: Figures, gate: Gate, profile: Profile) -> list[str]:
    """Every limit that a candidate misses, in words with numbers."""
    quality = (
        _closeness(item, gate),
        _primary(item, gate),
        _balanced(item, base, gate),
        _skill(item),
        _slices(item, gate),
    )
    found = [
        *_precision(item, profile),
        *_sharing(item, profile),
        *chain.from_iterable(quality),
        *_budget(item, gate, profile),
    ]
    compared = item is not base and not profile.int8.full
    return [*found, *_speed(item, base, gate)] if compared else found


def _precision(item: Figures, profile: Profile) -> Iterator[str]:
    if profile.int8.full and item.precision in FLOATS:
        yield f"{profile.name} computes in integers alone: a model in {item.precision} does not run there"


def _sharing(item: Figures, profile: Profile) -> Iterator[str]:
    if profile.load.mode == "mmap" and item.name != BASELINE and not item.quantized_share:
        yield (
            "computes in float from smaller weights, which the engine unfolds in the memory of each worker: "
            f"{profile.name} maps weights so that workers share them"
        )


def _closeness(item: Figures, gate: Gate) -> Iterator[str]:
    quality = item.quality
    for name, value in sorted(quality.sqnr_db.items()):
        if value < gate.sqnr_min_db:
            yield f"signal-to-quantization-noise of {name} {value:.1f} dB, at least {gate.sqnr_min_db:g} dB are needed"
    if quality.agreement < gate.agreement_min:
        yield f"agreement with the source model {quality.agreement:.3f}, at least {gate.agreement_min:g} is needed"


def _primary(item: Figures, gate: Gate) -> Iterator[str]:
    quality = item.quality
    if quality.drop > gate.primary_drop_max + EPSILON:
        yield (
            f"{quality.primary} loses {quality.drop * 100:.2f} points "
            f"(95 % upper bound {quality.drop_upper * 100:.2f}), at most {gate.primary_drop_max * 100:g} are allowed"
        )


def _balanced(item: Figures, base: Figures, gate: Gate) -> Iterator[str]:
    before, after = base.value("balanced_accuracy"), item.value("balanced_accuracy")
    if before is None or after is None:
        return
    if before - after > gate.balanced_drop_ratio_max * before + EPSILON:
        yield f"balanced accuracy {after:.4f} after {before:.4f}: more than {gate.balanced_drop_ratio_max:.0%} lost"


def _skill(item: Figures) -> Iterator[str]:
    name = item.quality.skilled
    figure = item.quality.metrics[name]
    if figure["low"] <= figure["no_skill"]:
        yield (
            f"{name.replace('_', ' ')} {figure['value']:.4f} (95 % interval from {figure['low']:.4f}, n {figure['n']}) "
            f"is not shown to be above {figure['no_skill']:.4f}, which no skill at all reaches"
        )


def _slices(item: Figures, gate: Gate) -> Iterator[str]:
    worst = slices.worst(item.quality.slices)
    if worst is None:
        return
    if worst["drop"] > gate.slice_drop_max + EPSILON and worst["drop"] * worst["n"] >= 2 - EPSILON:
        yield (
            f"slice {worst['slice']} (n {worst['n']}): {item.quality.primary} loses {worst['drop'] * 100:.2f} points, "
            f"at most {gate.slice_drop_max * 100:g} are allowed in any slice"
        )


def _budget(item: Figures, gate: Gate, profile: Profile) -> Iterator[str]:
    budgets, timing = profile.budgets, item.timing
    if budgets.size_bytes and item.size_bytes > budgets.size_bytes:
        yield f"{item.size_bytes} bytes, the profile's budget is {budgets.size_bytes}"
    if budgets.memory_bytes and timing.memory_bytes > budgets.memory_bytes:
        yield f"{timing.memory_bytes} bytes of memory, the profile's budget is {budgets.memory_bytes}"
    if budgets.latency_us and timing.proxy and not gate.unmeasured_latency:
        yield f"the profile's budget of {budgets.latency_us} µs cannot be judged here ({timing.proxy}): {ON_THE_BOARD}"
    if budgets.latency_us and timing.latency_us > budgets.latency_us and not timing.proxy:
        yield f"{timing.latency_us:.0f} µs, the profile's budget is {budgets.latency_us} µs"


def _speed(item: Figures, base: Figures, gate: Gate) -> Iterator[str]:
    timing = item.timing
    if timing.latency_ratio > gate.latency_ratio_max:
        yield (
            f"slower than fp32: {timing.latency_ratio:.2f} times its latency "
            f"({timing.latency_us:.1f} µs, fp32 {base.timing.latency_us:.1f} µs{_proxy_words(timing.proxy)})"
        )
    elif timing.proxy and item.size_bytes > PROXY_SIZE_RATIO * base.size_bytes:
        yield f"only a proxy speaks for it ({timing.proxy}) and its file is not {1 - PROXY_SIZE_RATIO:.0%} smaller"


def _proxy_words(proxy: str) -> str:
    return f"; even {proxy}" if proxy.startswith("measured with ") else f"; {proxy}" if proxy else ""


def _cost(item: Figures) -> float:
    return item.size_bytes * item.timing.latency_ratio


def _is_near(item: Figures, least: Figures) -> bool:
    """Whether nothing that was measured tells what two candidates cost apart: each one's timings reach the other's."""
    mine, other = item.timing, least.timing
    overlap = mine.latency_p10_us <= other.latency_p90_us and other.latency_p10_us <= mine.latency_p90_us
    return item is least or (overlap and _cost(item) <= NEAR * _cost(least))


def _closest(item: Figures) -> float:
    """Signal to noise of the worst output in dB."""
    return min(item.quality.sqnr_db.values(), default=0.0)


def _dominates(other: Figures, item: Figures) -> bool:
    def axes(figures: Figures) -> tuple[float, float, float]:
        return figures.size_bytes, figures.timing.latency_ratio, -_closest(figures)

    mine, others = axes(item), axes(other)
    return others != mine and all(theirs <= own for theirs, own in zip(others, mine, strict=True))


def _reason(best: Figures, base: Figures, figures: list[Figures], refusals: dict[str, list[str]]) -> str:
    if best.name != BASELINE:
        return _gains(best, base)
    others = [item for item in figures if item.name != BASELINE]
    if not others:
        return "fp32: no other candidate could be built"
    said = [f"{item.name} {'; '.join(refusals[item.name]) or 'gains nothing'}" for item in others]
    return "fp32 kept because of what was measured: " + " · ".join(said)


def _gains(best: Figures, base: Figures) -> str:
    quality, timing = best.quality, best.timing
    noise = ", ".join(f"{name} {value:.1f} dB" for name, value in sorted(quality.sqnr_db.items()))
    before, after = (item.value(quality.primary) for item in (base, best))
    return (
        f"{best.name}: {best.size_bytes / base.size_bytes:.2f} times the size and {timing.latency_ratio:.2f} times the "
        f"latency of fp32; agreement {quality.agreement:.3f}, {noise}, {quality.primary} {after:.4f} after {before:.4f}"
        + (f" (latency is a proxy: {timing.proxy})" if timing.proxy else "")
    )
