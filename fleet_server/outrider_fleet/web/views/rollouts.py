"""Rollouts: phases as bars of what was exposed and how it ended, and why they stand where they stand."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outrider_fleet.domain import plan
from outrider_fleet.domain.plan import Phase
from outrider_fleet.errors import InvalidRequestError
from outrider_fleet.web.views import charts
from outrider_fleet.web.views.charts import Segment
from outrider_fleet.web.views.devices import Link
from outrider_fleet.web.views.words import (
    Badge,
    Fact,
    Moment,
    badge,
    facts,
    lineage_href,
    moment,
    plain,
    rollout_href,
)
from outrider_protocol.execution import ENDS, FAILURES, State

Row = Mapping[str, Any]
_FAILED = frozenset(state.value for state in FAILURES)
_ENDED = frozenset(state.value for state in ENDS)


@dataclass(frozen=True)
class PhaseView:
    """One phase: how many devices it adds (`room`), and what became of those exposed in it."""

    name: str
    room: int
    exposed: int
    succeeded: int
    failed: int
    working: int
    other: int
    current: bool
    bound: str
    bar: tuple[Segment, ...]


@dataclass(frozen=True)
class RolloutView:
    """One rollout."""

    id: str
    href: str
    release: Link
    group: str
    state: Badge
    verdict: Badge
    why: str
    phases: tuple[PhaseView, ...]
    exposed: int
    total: int
    created: Moment | None
    created_by: str
    ended: Moment | None
    run: Link | None
    lineage: str


@dataclass(frozen=True)
class EventView:
    """Something that happened in a rollout."""

    kind: Badge
    text: str
    exposed: int
    at: Moment | None


def phases_of(spec: Any) -> tuple[Phase, ...]:
    """The phases that a stored rollout asks for; none where they cannot be read."""
    try:
        return plan.parse({"phases": spec.get("phases")}).phases if isinstance(spec, Mapping) else ()
    except InvalidRequestError:
        return ()


def phase_names(spec: Any) -> list[str]:
    """Their names, as text."""
    return [plain(phase.name, 64) for phase in phases_of(spec)]


def settings_of(spec: Any) -> tuple[Fact, ...]:
    """Gates and parameters of a stored rollout, as facts."""
    if not isinstance(spec, Mapping):
        return ()
    gates = spec.get("gates")
    named = {f"gate {name}": value for name, value in gates.items()} if isinstance(gates, Mapping) else {}
    parameters = spec.get("parameters")
    timeout = {"execution_timeout_s": spec["execution_timeout_s"]} if "execution_timeout_s" in spec else {}
    return facts({**named, **(parameters if isinstance(parameters, Mapping) else {}), **timeout})


def rollout_view(row: Row, progress: Iterable[Row], now_ms: int) -> RolloutView:
    """One rollout with its progress (rows of `queries.progress`)."""
    counted = list(progress)
    total = sum(item["n"] for item in counted)
    name = f"{row['model']}/{row['version']}"
    return RolloutView(
        id=plain(row["id"], 64),
        href=rollout_href(row["id"]),
        release=Link(plain(f"{row['model']} {row['version']}", 130), lineage_href("release", name)),
        group=plain(row["group_name"], 64),
        state=badge(row["state"]),
        verdict=Badge(plain(row["verdict"], 20), "quiet"),
        why=plain(row["why"]),
        phases=_phase_views(row, phases_of(row["spec"]), counted, total),
        exposed=sum(item["exposed"] for item in counted),
        total=total,
        created=moment(row["created_ms"], now_ms),
        created_by=plain(row["created_by"], 64),
        ended=moment(row["ended_ms"], now_ms),
        run=Link(plain(row["run"], 64), lineage_href("run", row["run"])) if row["run"] else None,
        lineage=lineage_href("rollout", row["id"]),
    )


def _phase_views(row: Row, phases: Sequence[Phase], counted: list[Row], total: int) -> tuple[PhaseView, ...]:
    views, before = [], 0
    for number, phase in enumerate(phases):
        bound = phase.bound(total)
        mine = [item for item in counted if item["phase"] == number and item["exposed"]]
        views.append(
            _phase_view(phase, max(0, bound - before), mine, current=number == row["phase"] and row["ended_ms"] is None)
        )
        before = max(before, bound)
    return tuple(views)


def _phase_view(phase: Phase, room: int, mine: list[Row], *, current: bool) -> PhaseView:
    exposed = sum(item["exposed"] for item in mine)
    succeeded = _count(mine, {State.SUCCEEDED.value})
    failed = _count(mine, _FAILED)
    ended = _count(mine, _ENDED)
    other = ended - succeeded - failed
    parts = ((succeeded, "good"), (failed, "bad"), (other, "quiet"), (exposed - ended, "busy"))
    bound = f"at most {phase.max_devices}" if phase.max_devices is not None else f"{phase.percent:g} %"
    bar = charts.bar(parts, max(room, exposed))
    return PhaseView(
        plain(phase.name, 64), room, exposed, succeeded, failed, exposed - ended, other, current, bound, bar
    )


def _count(rows: Iterable[Row], states: frozenset[str] | set[str]) -> int:
    return sum(item["exposed"] for item in rows if item["state"] in states)


def event_view(row: Row, now_ms: int) -> EventView:
    """One event of a rollout."""
    return EventView(badge(row["kind"]), plain(row["text"]), row["exposed"], moment(row["at_ms"], now_ms))
