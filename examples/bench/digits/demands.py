"""What the compiler must show, each with its figure, its threshold and whether it holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from examples.bench.digits.builds import FAST, LITERT
from examples.bench.digits.case import OURS, Case
from examples.bench.digits.compare import SOURCE, Found
from examples.bench.digits.planted import Planted

WHOLE_INT8: Final = ("int8_static", "int8_dynamic", "int8_weight")
"""Candidates with every operator in int8 that can be; those that keep some in float are larger by design."""
WATCH_S: Final = 12.0
OTHERS_S: Final = 60.0


@dataclass(frozen=True)
class Demand:
    """One line."""

    title: str
    measured: str
    threshold: str
    holds: bool


@dataclass(frozen=True)
class Times:
    """A build for three boards: seconds by the clock, and of CPU."""

    wall_s: float
    cpu_s: float


def demands(cases: list[Case], planted: list[Planted], watch: Times) -> list[Demand]:
    """All of them, for the nets that were measured; at least one case."""
    plain, transformer = ([case for case in cases if case.net == net] for net in ("plain", "transformer"))
    return [
        _never_slower(cases),
        *([_plain(plain)] if plain else []),
        *([_transformer(transformer)] if transformer else []),
        _sizes(cases),
        _litert(cases),
        _planted(planted),
        _time("the demo's net compiles for three boards", [watch], WATCH_S),
        _time("each net compiles for three boards", [Times(case.wall_s, case.cpu_s) for case in cases], OTHERS_S),
    ]


def drop_points(case: Case, board: str, tool: str = OURS) -> float:
    """Points of accuracy that a file loses against fp32."""
    return 100 * (case.figures[board][SOURCE].accuracy - case.figures[board][tool].accuracy)


def worst_db(found: Found) -> float:
    """SQNR of the worse output."""
    return min(found.sqnr_db.values())


def _never_slower(cases: list[Case]) -> Demand:
    """A file is slower where nine rounds of ten say so: two equal files measure 0.98 to 1.02 times each other."""
    shipped = [(case, board, figures[OURS]) for case in cases for board, figures in case.figures.items()]
    changed = [item for item in shipped if item[0].chosen[item[1]] != SOURCE]
    title, threshold = "nothing that ships is slower than its fp32", "≥ 1× in a tenth of the rounds"
    if not changed:
        return Demand(title, "fp32 everywhere", threshold, True)
    case, board, least = min(changed, key=lambda item: item[2].speed_up[2])
    median, _, high = least.speed_up
    said = f"least {median:.2f}×, a tenth of the rounds ≥ {high:.2f}× ({case.net}, {board}: {case.chosen[board]})"
    return Demand(title, said, threshold, high >= 1.0)


def _plain(cases: list[Case]) -> Demand:
    speed, drop = _least_speed(cases), max(drop_points(case, FAST) for case in cases)
    return Demand(
        f"plain net on {FAST}, every seed",
        f"{speed:.2f}×, accuracy {-drop:+.2f} points at worst",
        "≥ 2.3× at ≤ 0.2 points",
        speed >= 2.3 and drop <= 0.2,
    )


def _transformer(cases: list[Case]) -> Demand:
    speed = _least_speed(cases)
    noise = min(worst_db(case.figures[FAST][OURS]) for case in cases)
    return Demand(
        f"transformer on {FAST}, every seed",
        f"{speed:.2f}×, {noise:.1f} dB at the worse output",
        "≥ 1.5× at ≥ 40 dB",
        speed >= 1.5 and noise >= 40.0,
    )


def _least_speed(cases: list[Case]) -> float:
    return min(case.figures[FAST][OURS].speed_up[0] for case in cases)


def _sizes(cases: list[Case]) -> Demand:
    ratios = [
        (item["size_bytes"] / base["size_bytes"], f"{case.net}, {board}: {item['name']}")
        for case, board, item, base in _candidates(cases)
        if item["name"] in WHOLE_INT8
    ]
    largest, where = max(ratios, default=(float("inf"), "none"))
    return Demand("size of int8 candidates", f"{largest:.3f}× at most ({where})", "≤ 0.36×", largest <= 0.36)


def _litert(cases: list[Case]) -> Demand:
    noise = [
        (min(item["sqnr_db"].values()), f"{case.net}, seed {case.seed}")
        for case, board, item, _ in _candidates(cases)
        if board == LITERT and item["name"] == "int8_static"
    ]
    least, where = min(noise, default=(0.0, "none built"))
    whole = len(noise) == len(cases)
    return Demand(
        "LiteRT static int8, every net and seed", f"{least:.1f} dB ({where})", "≥ 25 dB", whole and least >= 25
    )


def _candidates(cases: list[Case]) -> Iterable[tuple[Case, str, dict[str, Any], dict[str, Any]]]:
    for case in cases:
        for board, listed in case.candidates.items():
            base = next(item for item in listed if item["name"] == SOURCE)
            yield from ((case, board, item, base) for item in listed)


def _planted(found: list[Planted]) -> Demand:
    shown = sum(item.shows for item in found)
    return Demand(
        "planted: accepted by a tool's accuracy control, fails on held-out data, refused here",
        f"{shown} of {len(found)} seeds",
        "all",
        bool(found) and shown == len(found),
    )


def _time(title: str, times: list[Times], limit_s: float) -> Demand:
    longest = max(times, key=lambda item: item.wall_s)
    said = f"{longest.wall_s:.0f} s at most ({longest.cpu_s:.0f} s of CPU)"
    return Demand(title, said, f"≤ {limit_s:g} s", longest.wall_s <= limit_s)
