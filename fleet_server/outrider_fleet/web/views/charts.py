"""Geometry of the inline charts: numbers in, coordinates out; templates draw them.

1. A chart's box is `WIDTH` × `HEIGHT` user units; y grows downwards, and 0 of the data lies on its lower edge.
2. Every chart carries the sentence that says the same (`label`), for those who do not see it.

>>> steps([(0, 1), (10, 2)], until=20, top=2, label="two").path
'M0.0,48.0 V24.0 H120.0 V0.0 H240.0'
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 240.0
HEIGHT: Final = 48.0


@dataclass(frozen=True)
class Dot:
    """A mark at a place, with a tone as in `words.Badge`."""

    x: float
    y: float
    tone: str


@dataclass(frozen=True)
class Chart:
    """A line (`path`), its filled area, marks, and the words for it."""

    label: str
    path: str = ""
    area: str = ""
    dots: tuple[Dot, ...] = ()
    top: str = ""
    begin: str = ""
    end: str = ""


@dataclass(frozen=True)
class Segment:
    """A piece of a progress bar, in per cent of its width."""

    x: float
    width: float
    tone: str


def _scaled(x: float, low: float, high: float) -> float:
    return WIDTH if high <= low else WIDTH * (x - low) / (high - low)


def _height(y: float, top: float) -> float:
    return HEIGHT * (1 - max(0.0, min(1.0, y / top))) if top > 0 else HEIGHT


def steps(points: Sequence[tuple[float, float]], *, until: float, top: float, label: str) -> Chart:
    """A line of steps through (time, value) in ascending time, up to `until`; it starts from 0."""
    if not points:
        return Chart(label)
    low, high = points[0][0], max(until, points[-1][0])
    path = f"M0.0,{HEIGHT}"
    for place, (at, value) in enumerate(points):
        move = f" H{_scaled(at, low, high):.1f}" if place else ""
        path += f"{move} V{_height(value, top):.1f}"
    path += f" H{WIDTH}"
    return Chart(label, path, f"{path} V{HEIGHT} Z", top=f"{top:g}")


def line(values: Sequence[float], *, top: float, label: str) -> Chart:
    """A line through equally spaced values, in their order."""
    if len(values) < 2:
        return Chart(label)
    places = ((WIDTH * i / (len(values) - 1), _height(value, top)) for i, value in enumerate(values))
    path = "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return Chart(label, path, f"{path} L{WIDTH},{HEIGHT} L0.0,{HEIGHT} Z", top=f"{top:g}")


def dots(points: Sequence[tuple[float, float, str]], *, since: float, until: float, top: float) -> tuple[Dot, ...]:
    """Marks at (time, value, tone) on the scale of a chart from `since` to `until`."""
    return tuple(Dot(round(_scaled(at, since, until), 1), round(_height(y, top), 1), tone) for at, y, tone in points)


def bar(parts: Sequence[tuple[int, str]], total: int) -> tuple[Segment, ...]:
    """Pieces (count, tone) of `total`, side by side; empty pieces are left out."""
    segments, begin = [], 0.0
    for count, tone in parts:
        width = 100 * count / total if total else 0.0
        if count > 0:
            segments.append(Segment(round(begin, 2), round(width, 2), tone))
        begin += width
    return tuple(segments)
