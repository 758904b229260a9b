"""Names beside the points of a plot, none over another, over a point or outside the frame. Pure.

1. A name stands beside its point where there is room, else further away with a line to it.
2. A name without any room is left out: the table below the plot has them all.
3. Widths are those of a fixed-pitch face, in which names are drawn.

>>> first, second = place([(100, 50), (104, 52)], ["int8", "fp32"], Frame(0, 0, 300, 100))
>>> first.beside, first.box.overlaps(second.box)
(True, False)
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

CHARACTER: Final = 6.7
LINE: Final = 14.0
GAP: Final = 13.0
RADIUS: Final = 7.0
DISTANCES: Final = (0.0, 16.0, 30.0, 46.0, 64.0, 84.0, 110.0, 140.0)
DIRECTIONS: Final = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))
LETTERS_MAX: Final = 26


@dataclass(frozen=True)
class Frame:
    """A rectangle, top left to bottom right."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Frame) -> bool:
        """Whether both share more than an edge."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def holds(self, other: Frame) -> bool:
        """Whether the other lies within."""
        return (
            self.left <= other.left
            and self.top <= other.top
            and other.right <= self.right
            and other.bottom <= self.bottom
        )


@dataclass(frozen=True)
class Label:
    """A name's box; `beside` says that it needs no line to its point."""

    text: str
    box: Frame
    beside: bool


def shortened(text: str) -> str:
    """A name that fits into a plot."""
    return text if len(text) <= LETTERS_MAX else text[: LETTERS_MAX - 1] + "…"


def width_of(text: str) -> float:
    """Of a name in pixels; wide characters take two places."""
    return CHARACTER * sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def place(points: list[tuple[float, float]], names: list[str], frame: Frame) -> list[Label | None]:
    """One label a point, in the same order; None where there is no room."""
    taken = [Frame(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in points]
    found: list[Label | None] = []
    for point, name in zip(points, names, strict=True):
        label = _first_free(point, shortened(name), frame, taken)
        if label is not None:
            taken.append(label.box)
        found.append(label)
    return found


def _first_free(point: tuple[float, float], text: str, frame: Frame, taken: list[Frame]) -> Label | None:
    for label in _places(point, text):
        if frame.holds(label.box) and not any(label.box.overlaps(other) for other in taken):
            return label
    return None


def _places(point: tuple[float, float], text: str) -> Iterator[Label]:
    width = width_of(text)
    for distance in DISTANCES:
        for right, down in DIRECTIONS:
            away = (GAP + distance) / math.hypot(right, down)
            x, y = point[0] + right * away, point[1] + down * away
            left = x - width * (1 - right) / 2
            top = y - LINE * (1 - down) / 2
            yield Label(text, Frame(left, top, left + width, top + LINE), distance == 0)
