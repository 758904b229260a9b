"""report.html: one file that opens offline, with no script and nothing from elsewhere.

1. It shows what report.json holds and nothing else; every text is escaped.
2. The page forbids itself everything but its own styles (Content-Security-Policy).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler import slices
from outrider_compiler.report import plots, wording

if TYPE_CHECKING:
    from jinja2 import Template

Json = dict[str, Any]
FOLD: Final = 24
BASELINE: Final = "fp32"
WORDS: Final = ("digits", "figure", "share", "ratio", "decibels", "size", "time_us", "unit", "words", "plain")


@dataclass(frozen=True)
class View:
    """What the page shows of a profile beside its own values; `chosen` and `base` are candidates, None without any."""

    reason: str
    chosen: Json | None
    base: Json | None
    primary: str
    n: int
    measured_on: list[str]
    proxies: list[str]
    wide: plots.Pareto
    narrow: plots.Pareto
    times: plots.Histograms
    metrics: list[plots.Metric]
    worst: Json | None
    layered: list[Json]
    fallen: list[Json]
    made: list[Json]

    @classmethod
    def of(cls, profile: Json, evaluation: Json) -> View:
        """Look at a profile of the report."""
        candidates = profile["candidates"]
        chosen = next((item for item in candidates if item["name"] == profile["chosen"]), None)
        return cls(
            reason=wording.reason(profile),
            chosen=chosen,
            base=next((item for item in candidates if item["name"] == BASELINE), None),
            primary=evaluation["primary"],
            n=evaluation["n"],
            measured_on=_each(candidates, "measured_on"),
            proxies=_each(candidates, "proxy"),
            wide=plots.pareto(candidates, profile["pareto"], plots.WIDE),
            narrow=plots.pareto(candidates, profile["pareto"], plots.NARROW),
            times=plots.histograms(candidates),
            metrics=plots.metrics(evaluation["metrics"], chosen["metrics"] if chosen else None),
            worst=_worst(chosen["slices"]) if chosen else None,
            layered=[item for item in candidates if item["layers"]],
            fallen=[item for item in candidates if item["fallback"]],
            made=[item for item in candidates if item["recipe"]],
        )


def _worst(parts: list[Json]) -> Json | None:
    found = slices.worst(tuple(parts))
    return found if found and found["drop"] > 0 else None


def _each(candidates: list[Json], key: str) -> list[str]:
    return sorted({item[key] for item in candidates if item[key]})


def render(value: Json) -> bytes:
    """The page for a report value of `content.report`."""
    evaluation = value["evaluation"]
    views = {name: View.of(profile, evaluation) for name, profile in value["profiles"].items()}
    source = plots.metrics(evaluation["metrics"], None)
    return _template().render(report=value, views=views, source=source, fold=FOLD).encode()


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("outrider_compiler.report", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {name: getattr(wording, name) for name in WORDS} | {"bar_of": plots.bar_of}
    return environment.get_template("report.html.j2")
