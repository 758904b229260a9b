"""The geometry of the report's drawings: what stands where, in pixels or in shares of the width. Pure; no markup.

1. Axes are logarithmic where candidates are compared: they differ by factors.
2. A drawing of fixed width is made for each width of a screen, so that its letters keep their size; bars stretch.
3. A verdict is told by a form as well as by a colour.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from outrider_compiler.report import wording
from outrider_compiler.report.labels import Frame, Label, place
from outrider_compiler.report.scales import LogScale

Json = dict[str, Any]
ABOVE: Final = 28
BELOW: Final = 44
LEFT: Final = 62
RIGHT: Final = 20
HEIGHT_MIN: Final = 300
HEIGHT_EACH: Final = 26
WIDE: Final = 530
NARROW: Final = 338
BARS: Final = 1000.0
TOP: Final = 100.0
LAYERS_DB: Final = 60.0
LATEST: Final = 2.5
LATE: Final = 8.0


@dataclass(frozen=True)
class Tick:
    """A named value of an axis and its place."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A candidate in the plot; `label` None where there was no room for its name."""

    x: float
    y: float
    name: str
    verdict: str
    says: str
    label: Label | None

    @property
    def line(self) -> tuple[float, float] | None:
        """Where a line from the point to its name ends."""
        if self.label is None or self.label.beside:
            return None
        box = self.label.box
        return min(max(self.x, box.left), box.right), min(max(self.y, box.top), box.bottom)


@dataclass(frozen=True)
class Pareto:
    """Size (up) over latency (right). `front` are the corners of a staircase; `same` is where fp32's latency stands."""

    width: int
    height: int
    frame: Frame
    x: list[Tick]
    y: list[Tick]
    marks: list[Mark]
    front: list[tuple[float, float]]
    same: float | None


def pareto(candidates: list[Json], front: list[str], width: int) -> Pareto:
    """The plot of a profile's candidates."""
    height = max(HEIGHT_MIN, HEIGHT_EACH * len(candidates) + ABOVE + BELOW)
    frame = Frame(LEFT, ABOVE, width - RIGHT, height - BELOW)
    ratios = [item["latency_ratio"] for item in candidates]
    x = LogScale.around([*ratios, 1.0], frame.left, frame.right)
    y = LogScale.around([item["size_bytes"] for item in candidates], frame.bottom, frame.top)
    points = [(x.at(item["latency_ratio"]), y.at(item["size_bytes"])) for item in candidates]
    labels = place(points, [item["name"] for item in candidates], frame)
    marks = [
        Mark(*point, item["name"], item["verdict"], _says(item), label)
        for point, item, label in zip(points, candidates, labels, strict=True)
    ]
    return Pareto(
        width,
        height,
        frame,
        [Tick(tick.at, wording.short(wording.ratio(tick.value))) for tick in x.ticks()],
        [Tick(tick.at, wording.short(wording.size(tick.value))) for tick in y.ticks()],
        marks,
        staircase([(mark.x, mark.y) for mark in marks if mark.name in front]),
        x.at(1.0) if candidates else None,
    )


def _says(item: Json) -> str:
    times = f"{wording.time_us(item['latency_us'])}, {wording.ratio(item['latency_ratio'])} of fp32"
    return f"{item['name']}: {wording.size(item['size_bytes'])}, {times}, {item['verdict']}"


def staircase(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """From point to point to the right, then down: what lies above the line is larger or slower than a point on it."""
    corners: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not corners:
            corners.append((x, y))
        elif y > corners[-1][1]:
            corners += [(x, corners[-1][1]), (x, y)]
    return corners


@dataclass(frozen=True)
class Bar:
    """A box in a drawing of `BARS` × `TOP` that is stretched to the width it gets."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Row:
    """One candidate's latencies over the axis that all share; `median` in the same units."""

    item: Json
    bars: list[Bar]
    median: float


@dataclass(frozen=True)
class Histograms:
    """Rows under one axis; tick places in percent of the width."""

    rows: list[Row]
    ticks: list[Tick]


def histograms(candidates: list[Json]) -> Histograms:
    """Latencies of single runs up to `LATEST` times the slowest median; what took longer stands at the end.

    Candidates without any (timed by an older program) have no row.
    """
    timed = [item for item in candidates if item["histogram"].get("counts")]
    starts = [min(item["histogram"]["edges_us"][0], item["latency_us"]) for item in timed]
    last = LATEST * max((item["latency_us"] for item in timed), default=1.0)
    scale = LogScale.between([*starts, last], 0.0, BARS)
    rows = [Row(item, _bars(item["histogram"], scale), scale.at(item["latency_us"])) for item in timed]
    return Histograms(
        rows, [Tick(tick.at / BARS * 100, wording.short(wording.time_us(tick.value))) for tick in scale.ticks()]
    )


def _bars(histogram: Json, scale: LogScale) -> list[Bar]:
    edges = [scale.at(edge) for edge in histogram["edges_us"]]
    late = sum(n for left, n in zip(edges, histogram["counts"], strict=False) if left >= BARS - LATE)
    bins = [
        (left, right, n)
        for left, right, n in zip(edges, edges[1:], histogram["counts"], strict=False)
        if left < BARS - LATE
    ]
    most = max([n for _, _, n in bins] + [late, 1])
    return [_bar(left, right, n / most) for left, right, n in [*bins, (BARS - LATE, BARS, late)] if n]


def _bar(left: float, right: float, share: float) -> Bar:
    height = round(max(share * TOP, 0.5), 2)
    return Bar(left, TOP - height, max(round(right - left, 1), 1.0), height)


@dataclass(frozen=True)
class Interval:
    """A figure's interval in percent of the width."""

    low: float
    at: float
    high: float


@dataclass(frozen=True)
class Metric:
    """One metric of the source and of what was chosen, with what no skill reaches."""

    name: str
    source: Json
    chosen: Json | None
    drawn: list[tuple[str, Interval]]
    no_skill: float | None


def metrics(source: dict[str, Json], chosen: dict[str, Json] | None) -> list[Metric]:
    """The table of metrics, each with its drawing."""
    return [_metric(name, item, (chosen or {}).get(name)) for name, item in sorted(source.items())]


def _metric(name: str, source: Json, chosen: Json | None) -> Metric:
    shown = {"source": source, **({"chosen": chosen} if chosen else {})}
    baseline = source["no_skill"]
    values = [item[end] for item in shown.values() for end in ("low", "value", "high")]
    values += [] if baseline is None else [baseline]
    low, high = min(0.0, *values), max(values)
    high = 1.0 if low >= 0.0 and high <= 1.0 else high

    def at(value: float) -> float:
        return round((value - low) / (high - low) * 100, 2) if high > low else 0.0

    drawn = [(who, Interval(*(at(item[end]) for end in ("low", "value", "high")))) for who, item in shown.items()]
    return Metric(name, source, chosen, drawn, None if baseline is None else at(baseline))


def bar_of(decibels: float | None) -> float:
    """Length of a layer's bar in percent: `LAYERS_DB` and more fill it."""
    return 0.0 if decibels is None else round(min(max(decibels, 0.0), LAYERS_DB) / LAYERS_DB * 100, 1)
