"""Which candidate ships, and the reason in words. Pure.

1. A candidate is refused for each limit of the gate or budget that it misses, with both numbers.
2. A latency that is a proxy never decides alone: it takes a file of at most `PROXY_SIZE_RATIO` of fp32's as well.
3. Of what remains, the Pareto front over size and latency; on it, the least size × latency.
4. Nothing but fp32 remaining means fp32, and the reason says what each other candidate measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from outrider_compiler.measure import BASELINE, Figures
from outrider_compiler.request import Gate
from outrider_profiles import Budgets

PROXY_SIZE_RATIO: Final = 0.75


@dataclass(frozen=True)
class Choice:
    """`refusals` by candidate (empty list: admitted); `front` names the Pareto front."""

    chosen: str
    reason: str
    refusals: dict[str, list[str]]
    front: tuple[str, ...]


def choose(figures: list[Figures], gate: Gate, budgets: Budgets) -> Choice | None:
    """The choice, or None where not even fp32 is admitted; `figures` holds fp32."""
    base = next(item for item in figures if item.name == BASELINE)
    refusals = {item.name: refusals_of(item, base, gate, budgets) for item in figures}
    admitted = [item for item in figures if not refusals[item.name]]
    if not admitted:
        return None
    front = [item for item in admitted if not any(_dominates(other, item) for other in admitted)]
    best = min(front, key=lambda item: item.size_bytes * item.latency_ratio)
    return Choice(best.name, _reason(best, base, figures, refusals), refusals, tuple(item.name for item in front))


def refusals_of(item: Figures, base: Figures, gate: Gate, budgets: Budgets) -> list[str]:
    """Every limit that a candidate misses, in words with numbers."""
    found = [*_quality(item, base, gate), *_budget(item, budgets)]
    if item is not base:
        found += _speed(item, base, gate)
    return found


def _quality(item: Figures, base: Figures, gate: Gate) -> list[str]:
    found = [
        f"signal-to-quantization-noise of {name} {value:.1f} dB, at least {gate.sqnr_min_db:g} dB are needed"
        for name, value in sorted(item.sqnr_db.items())
        if value < gate.sqnr_min_db
    ]
    if item.agreement < gate.agreement_min:
        found.append(f"agreement with the source model {item.agreement:.3f}, at least {gate.agreement_min:g} is needed")
    drop = base.accuracy - item.accuracy
    if drop > gate.accuracy_drop_max + 1e-9:
        found.append(f"accuracy falls by {drop * 100:.2f} points, at most {gate.accuracy_drop_max * 100:g} are allowed")
    balanced = base.balanced_accuracy - item.balanced_accuracy
    if balanced > gate.balanced_drop_ratio_max * base.balanced_accuracy + 1e-9:
        found.append(
            f"balanced accuracy {item.balanced_accuracy:.4f} after {base.balanced_accuracy:.4f}: "
            f"more than {gate.balanced_drop_ratio_max:.0%} lost"
        )
    return found


def _budget(item: Figures, budgets: Budgets) -> list[str]:
    found = []
    if budgets.size_bytes and item.size_bytes > budgets.size_bytes:
        found.append(f"{item.size_bytes} bytes, the profile's budget is {budgets.size_bytes}")
    if budgets.latency_us and item.latency_us > budgets.latency_us and not item.proxy:
        found.append(f"{item.latency_us:.0f} µs, the profile's budget is {budgets.latency_us} µs")
    return found


def _speed(item: Figures, base: Figures, gate: Gate) -> list[str]:
    found = []
    if item.latency_ratio > gate.latency_ratio_max:
        found.append(
            f"slower than fp32: {item.latency_ratio:.2f} times its latency "
            f"({item.latency_us:.1f} µs, fp32 {base.latency_us:.1f} µs{_proxy_words(item)})"
        )
    elif item.proxy and item.size_bytes > PROXY_SIZE_RATIO * base.size_bytes:
        found.append(
            f"only a proxy speaks for it ({item.proxy}) and its file is not {1 - PROXY_SIZE_RATIO:.0%} smaller"
        )
    return found


def _proxy_words(item: Figures) -> str:
    return (
        f"; even {item.proxy}" if item.proxy.startswith("measured with ") else (f"; {item.proxy}" if item.proxy else "")
    )


def _dominates(other: Figures, item: Figures) -> bool:
    no_worse = other.size_bytes <= item.size_bytes and other.latency_ratio <= item.latency_ratio
    better = other.size_bytes < item.size_bytes or other.latency_ratio < item.latency_ratio
    return no_worse and better


def _reason(best: Figures, base: Figures, figures: list[Figures], refusals: dict[str, list[str]]) -> str:
    if best.name != BASELINE:
        quality = ", ".join(f"{name} {value:.1f} dB" for name, value in sorted(best.sqnr_db.items()))
        return (
            f"{best.name}: {best.size_bytes / base.size_bytes:.2f} times the size and "
            f"{best.latency_ratio:.2f} times the latency of fp32; agreement {best.agreement:.3f}, {quality}, "
            f"accuracy {best.accuracy:.4f} after {base.accuracy:.4f}"
            + (f" (latency is a proxy: {best.proxy})" if best.proxy else "")
        )
    others = [item for item in figures if item.name != BASELINE]
    if not others:
        return "fp32: no other candidate could be built"
    said = [f"{item.name} {'; '.join(refusals[item.name]) or 'gains nothing'}" for item in others]
    return "fp32 kept because of what was measured: " + " · ".join(said)
