"""What each part of a page shows: reads by `queries`, builds by `views`.

1. A section is a template and the values it lays out; the page and its live fragment show the same.
2. Every section is read in one consistent view of the database.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from outrider_fleet.web import queries
from outrider_fleet.web.queries import Key
from outrider_fleet.web.views import devices, drift, lineage, releases, rollouts, runs, summary

View = dict[str, Any]


@dataclass(frozen=True)
class Want:
    """What is asked for: how many rows at most, after which key, and the present time in ms UTC."""

    now_ms: int
    limit: int = queries.LIMIT
    after: str = ""

    @property
    def seen(self) -> Key | None:
        """`after` as (created_ms, id), for lists that are newest first."""
        at, _, name = self.after.partition(",")
        return (int(at), name) if at.isdecimal() and len(at) < 16 else None


def _more(rows: queries.Rows, want: Want, key: Callable[[Any], str]) -> str:
    return key(rows[-1]) if len(rows) >= min(want.limit, queries.LIMIT) else ""


def _summary(connection: Connection, _want: Want) -> View:
    running = queries.running(connection)
    names = queries.release_names(connection, [row["digest"] for row in running])
    view = summary.summary_view(
        queries.device_counts(connection),
        queries.drift_counts(connection),
        queries.rollout_states(connection),
        running,
        names,
    )
    return {"summary": view}


def _devices(connection: Connection, want: Want) -> View:
    rows = queries.devices(connection, want.after, want.limit)
    names = [row["device"] for row in rows]
    shown = devices.device_views(
        rows, queries.drift_of(connection, names), queries.latest_executions(connection, names), want.now_ms
    )
    return {"devices": shown, "more": _more(rows, want, lambda row: str(row["device"]))}


def _rollouts(connection: Connection, want: Want) -> View:
    rows = queries.rollouts(connection, want.seen, want.limit)
    shown = [rollouts.rollout_view(row, queries.progress(connection, row["id"]), want.now_ms) for row in rows]
    return {"rollouts": shown, "more": _more(rows, want, lambda row: f"{row['created_ms']},{row['id']}")}


def _drift(connection: Connection, want: Want) -> View:
    counts = queries.drift_counts(connection)
    models = dict.fromkeys(row["model"] for row in counts)
    history = {m: (queries.drift_events(connection, model=m), queries.cleared(connection, m)) for m in models}
    reference = {row["model"]: row["accuracy"] for row in queries.reference_accuracy(connection)}
    shown = drift.model_views(counts, reference, queries.autonomy(connection), history, want.now_ms)
    open_events = [drift.maintenance_view(row, want.now_ms) for row in queries.maintenance(connection, 20)]
    return {"models": shown, "maintenance": open_events, "more": ""}


def _releases(connection: Connection, want: Want) -> View:
    rows = queries.releases(connection, want.seen, want.limit)
    artifacts = queries.artifacts(connection, [(row["model"], row["version"]) for row in rows])
    shown = releases.release_views(rows, artifacts, queries.running(connection), want.now_ms)
    more = _more(rows, want, lambda row: f"{row['created_ms']},{row['model']}/{row['version']}")
    return {"releases": shown, "more": more}


def _runs(connection: Connection, want: Want) -> View:
    rows = queries.runs(connection, want.seen, want.limit)
    shown = [runs.run_view(row, want.now_ms) for row in rows]
    snapshots = [runs.snapshot_view(row, want.now_ms) for row in queries.snapshots(connection, want.limit)]
    more = _more(rows, want, lambda row: f"{row['created_ms']},{row['id']}")
    return {"runs": shown, "snapshots": snapshots, "more": more}


@dataclass(frozen=True)
class Section:
    """One part of the front page: its title, how many rows it shows there, what changes it, how it is read."""

    name: str
    title: str
    shown: int
    changes: str
    read: Callable[[Connection, Want], View]


SECTIONS: Final = {
    section.name: section
    for section in (
        Section("summary", "Fleet", 200, "devices executions rollouts drift", _summary),
        Section("rollouts", "Rollouts", 6, "rollouts executions", _rollouts),
        Section("devices", "Devices", 50, "devices executions drift", _devices),
        Section("drift", "Drift", 200, "drift devices labels", _drift),
        Section("releases", "Releases", 12, "releases devices", _releases),
        Section("runs", "Runs and snapshots", 8, "runs snapshots labels", _runs),
    )
}


def device_page(connection: Connection, name: str, want: Want) -> View | None:
    """Everything of one device, or `None`."""
    row = queries.device(connection, name)
    if row is None:
        return None
    status = queries.drift_of(connection, [name])
    recent = queries.predictions(connection, name, row["outbox_id"] or "")
    executions = queries.device_executions(connection, name, 20)
    events = queries.drift_events(connection, name=name, limit=50)
    return {
        "device": devices.device_views([row], status, executions[:1], want.now_ms)[0],
        "facts": devices.device_facts(row, want.now_ms),
        "confidence": devices.confidence_chart(recent),
        "executions": [devices.execution_view(e, (), want.now_ms) for e in executions],
        "reports": [devices.report_view(e, want.now_ms) for e in queries.execution_events(connection, name, 40)],
        "streams": [devices.stream_view(s, want.now_ms) for s in queries.streams(connection, name)],
        "events": [drift.event_view(e, want.now_ms) for e in events],
    }


def rollout_page(connection: Connection, name: str, want: Want) -> View | None:
    """Everything of one rollout, or `None`; executions by device after `want.after`."""
    row = queries.rollout(connection, name)
    if row is None:
        return None
    rows = queries.executions(connection, name, want.after)
    names = rollouts.phase_names(row["spec"])
    return {
        "rollout": rollouts.rollout_view(row, queries.progress(connection, name), want.now_ms),
        "settings": rollouts.settings_of(row["spec"]),
        "executions": [devices.execution_view(e, names, want.now_ms) for e in rows],
        "more": _more(rows, want, lambda row: str(row["device"])),
        "events": [rollouts.event_view(e, want.now_ms) for e in queries.rollout_events(connection, name)],
    }


def lineage_page(connection: Connection, kind: str, name: str) -> View | None:
    """Both trees of one thing, or `None` where nobody knows it."""
    before = lineage.tree(kind, name, partial(queries.parents, connection))
    after = lineage.tree(kind, name, partial(queries.children, connection))
    known = before.branches or after.branches or queries.exists(connection, kind, name)
    return {"before": before, "after": after} if known else None
