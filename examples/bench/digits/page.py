"""The figures as Markdown. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Final

from examples.bench.digits.builds import BOARDS, EXACT, FAST, LITERT
from examples.bench.digits.case import OURS, Case
from examples.bench.digits.compare import SOURCE, Found
from examples.bench.digits.demands import Demand, drop_points
from examples.bench.digits.planted import INK, NET, TOOL, Planted

HEADINGS: Final = {
    FAST: "default load mode; every tool",
    EXACT: "weights mapped and not prepacked; this machine's 8-bit products are more than the board promises",
    LITERT: "LiteRT on this x86 machine: a proxy for the board, in speed alone",
}


def row(*cells: object) -> str:
    """One row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(*cells: str) -> Iterator[str]:
    """The first two rows of a table."""
    yield from (row(*cells), "|---" * len(cells) + "|")


def demands(found: list[Demand]) -> Iterator[str]:
    """What must be shown."""
    yield from head("demanded", "measured", "threshold", "")
    for item in found:
        yield row(item.title, item.measured, item.threshold, "holds" if item.holds else "**does not hold**")


def nets(cases: list[Case], by_image: dict[str, float]) -> Iterator[str]:
    """How good the fp32 nets are."""
    seeds = sorted({case.seed for case in cases})
    by_seed = [f"seed {seed}" for seed in seeds]
    title = "fp32 accuracy on hands that taught nothing"
    yield from head(title, *by_seed, "no skill", f"dealt by image, seed {seeds[0]}")
    for net, own in _by_net(cases).items():
        found = [f"{case.accuracy:.3f} (n {case.n})" for case in own]
        yield row(net, *found, f"{max(case.no_skill for case in own):.3f}", f"{by_image[net]:.3f}")


def board(cases: list[Case], name: str) -> Iterator[str]:
    """Every tool's file on one board."""
    yield f"**{name}** ({HEADINGS[name]})"
    yield ""
    speed = "speed-up by seed: median (10–90 %)"
    yield from head("net", "made by", "size ×", speed, "accuracy, points", "SQNR dB: p, e", "agreement")
    for net, own in _by_net(cases).items():
        for tool in own[0].figures[name]:
            if tool != SOURCE:
                yield _row(net, tool, [case for case in own if tool in case.figures[name]], name)


def _row(net: str, tool: str, cases: list[Case], name: str) -> str:
    found = [case.figures[name][tool] for case in cases]
    size = statistics.median(
        item.size_bytes / case.figures[name][SOURCE].size_bytes for item, case in zip(found, cases, strict=True)
    )
    drops = " / ".join(f"{-drop_points(case, name, tool) + 0.0:+.1f}" for case in cases)
    made_by = f"{tool}: {', '.join(dict.fromkeys(case.chosen[name] for case in cases))}" if tool == OURS else tool
    agreement = f"{min(item.agreement for item in found):.3f}"
    return row(net, made_by, f"{size:.2f}", _each(found, _speed), drops, _each(found, _noise), agreement)


def _each(found: list[Found], cell: Callable[[Found], str]) -> str:
    return " / ".join(cell(item) for item in found)


def _speed(item: Found) -> str:
    median, low, high = item.speed_up
    return f"{median:.2f} ({low:.2f}–{high:.2f})"


def _noise(item: Found) -> str:
    return ", ".join("∞" if value == float("inf") else f"{value:.0f}" for value in item.sqnr_db.values())


def candidates(cases: list[Case]) -> Iterator[str]:
    """Every candidate that the compiler built, from its reports."""
    measured = ("size ×", "speed-up", "accuracy, points", "worse SQNR dB", "integer share")
    yield from head("board", "net", "candidate", *measured, "verdicts")
    for name in BOARDS:
        for net, own in _by_net(cases).items():
            for candidate in dict.fromkeys(item["name"] for case in own for item in case.candidates[name]):
                yield _candidate(name, net, candidate, own)


def _candidate(name: str, net: str, candidate: str, cases: list[Case]) -> str:
    found = [item for case in cases for item in case.candidates[name] if item["name"] == candidate]
    bases = [next(i for i in case.candidates[name] if i["name"] == SOURCE) for case in cases]
    pairs = list(zip(found, bases, strict=False))
    size = statistics.median(item["size_bytes"] / base["size_bytes"] for item, base in pairs)
    speed = " / ".join(f"{1 / item['latency_ratio']:.2f}" for item in found)
    change = " / ".join(f"{100 * (item['accuracy'] - base['accuracy']) + 0.0:+.1f}" for item, base in pairs)
    noise = " / ".join(f"{min(item['sqnr_db'].values()):.0f}" for item in found)
    share = " / ".join(f"{item['quantized_share']:.2f}" for item in found)
    verdicts = ", ".join(dict.fromkeys(item["verdict"] for item in found))
    return row(name, net, candidate, f"{size:.2f}", speed, change, noise, share, verdicts)


def planted(found: list[Planted]) -> Iterator[str]:
    """The planted case."""
    yield f"{TOOL.title} on the {NET} net, calibrated and validated on images with {INK:g} of their ink:"
    yield ""
    ours = ("same data for both", "static int8 here", "ships")
    yield from head("seed", "the tool's own validation", "held-out digits", "SQNR dB", "its file at our gate", *ours)
    for item in found:
        yield _trap(item)


def _trap(item: Planted) -> str:
    seen, before, after = item.seen, item.held_out[SOURCE], item.tool
    return row(
        item.seed,
        f"{seen['before']:.3f} → {seen['after']:.3f} (n {seen['n']:.0f}): accepted",
        f"{before.accuracy:.3f} → {after.accuracy:.3f} (n {after.n})",
        f"{min(after.sqnr_db.values()):.1f}",
        f"refused: {'; '.join(item.missed)}" if item.missed else "passes",
        "refused" if item.same_refused else "taken",
        ", ".join(f"{name} {verdict}" for name, verdict in item.int8_verdicts.items()),
        f"{item.chosen}, {item.held_out[OURS].accuracy:.3f}",
    )


def failures(cases: list[Case]) -> Iterator[str]:
    """Tools that made no file, in their words."""
    for case in cases:
        yield from (f"- {case.net}, seed {case.seed}: {words}" for words in case.failed)


def times(cases: list[Case], watch: tuple[float, float]) -> Iterator[str]:
    """How long the compiler took."""
    yield from (*head("three boards", "seconds by the clock", "of CPU"), _time("the demo's net", [watch]))
    for net, own in _by_net(cases).items():
        yield _time(net, [(case.wall_s, case.cpu_s) for case in own])


def _time(title: str, found: list[tuple[float, float]]) -> str:
    wall, cpu = (" / ".join(f"{item[i]:.1f}" for item in found) for i in (0, 1))
    return row(title, wall, cpu)


def _by_net(cases: list[Case]) -> dict[str, list[Case]]:
    named = dict.fromkeys(case.net for case in cases)
    return {net: [case for case in cases if case.net == net] for net in named}
