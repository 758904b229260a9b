"""report.html: one file that opens offline, with no script and nothing from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

WIDTH: Final = 560
HEIGHT: Final = 260
MARGIN: Final = 48


@dataclass(frozen=True)
class Point:
    """A candidate in the plot, in pixels."""

    x: float
    y: float
    name: str
    verdict: str


def render(value: dict[str, Any]) -> bytes:
    """The page for a report value of `content.report`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("outrider_compiler.report", "."), autoescape=True, undefined=StrictUndefined
    )
    plots = {name: points(profile["candidates"]) for name, profile in value["profiles"].items()}
    template = environment.get_template("report.html.j2")
    return template.render(report=value, plots=plots, width=WIDTH, height=HEIGHT, margin=MARGIN).encode()


def points(candidates: list[dict[str, Any]]) -> list[Point]:
    """Place candidates by latency ratio (right is slower) and size (up is larger)."""
    right = max((item["latency_ratio"] for item in candidates), default=1.0) * 1.08
    top = max((item["size_bytes"] for item in candidates), default=1) * 1.08
    return [
        Point(
            round(MARGIN + item["latency_ratio"] / right * (WIDTH - 2 * MARGIN), 1),
            round(HEIGHT - MARGIN - item["size_bytes"] / top * (HEIGHT - 2 * MARGIN), 1),
            item["name"],
            item["verdict"],
        )
        for item in candidates
    ]
