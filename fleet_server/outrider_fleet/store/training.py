"""Snapshots, training runs and lineage."""

from typing import Any, Final

from sqlalchemy import Connection, and_, func, or_, select

from outrider_fleet.store import sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import lineage, predictions, runs, snapshot_rows, snapshots

AT_WORK: Final = ("proposed", "queued", "claimed")


def get(connection: Connection, run: str) -> Row | None:
    """A run's row."""
    return sql.find(connection, runs, id=run)


def listed(connection: Connection, *, after: str | None = None, limit: int = sql.PAGE) -> list[Row]:
    """Runs, newest first."""
    return sql.page(connection, select(runs), runs.c.id, after=after, limit=limit, newest_first=True)


def latest(connection: Connection, model: str) -> Row | None:
    """A model's newest run."""
    return sql.one(connection, select(runs).where(runs.c.model == model).order_by(runs.c.id.desc()).limit(1))


def at_work(connection: Connection, model: str) -> Row | None:
    """A run of the model that has not finished."""
    return sql.one(connection, select(runs).where(runs.c.model == model, runs.c.state.in_(AT_WORK)).limit(1))


def highest_counter(connection: Connection, model: str) -> int:
    """The highest release counter that was reserved for a run."""
    return int(sql.scalar(connection, select(func.max(runs.c.counter)).where(runs.c.model == model)) or 0)


def versions(connection: Connection, model: str) -> set[str]:
    """Versions reserved for runs that did not fail."""
    chosen = select(runs.c.version).where(runs.c.model == model, runs.c.state != "failed")
    return {str(row["version"]) for row in sql.rows(connection, chosen)}


def claimable(connection: Connection, models: list[str] | None, stale_before_ms: int) -> Row | None:
    """The oldest run that nobody works on."""
    free = or_(runs.c.state == "queued", and_(runs.c.state == "claimed", runs.c.updated_ms < stale_before_ms))
    chosen = select(runs).where(free)
    if models is not None:
        chosen = chosen.where(runs.c.model.in_(models))
    return sql.one(connection, chosen.order_by(runs.c.id).limit(1))


def update(connection: Connection, run: str, values: dict[str, Any]) -> None:
    """Change columns of a run."""
    sql.change(connection, runs, runs.c.id == run, values)


def awaiting_rollout(connection: Connection) -> list[Row]:
    """Finished runs whose release nobody has rolled out or proposed yet."""
    return sql.rows(connection, select(runs).where(runs.c.state == "succeeded", runs.c.rollout.is_(None)))


def snapshot(connection: Connection, digest: str) -> Row | None:
    """A snapshot's row."""
    return sql.find(connection, snapshots, digest=digest)


def list_snapshots(connection: Connection, *, after: int | None = None, limit: int = sql.PAGE) -> list[Row]:
    """Snapshots, newest first."""
    return sql.page(connection, select(snapshots), snapshots.c.created_ms, after=after, limit=limit, newest_first=True)


def parents(connection: Connection, kind: str, name: str) -> list[tuple[str, str]]:
    """What a thing was made of."""
    chosen = select(lineage).where(lineage.c.child_kind == kind, lineage.c.child_id == name)
    ordered = chosen.order_by(lineage.c.parent_kind, lineage.c.parent_id)
    return [(row["parent_kind"], row["parent_id"]) for row in sql.rows(connection, ordered)]


def children(connection: Connection, kind: str, name: str) -> list[tuple[str, str]]:
    """What was made of a thing."""
    chosen = select(lineage).where(lineage.c.parent_kind == kind, lineage.c.parent_id == name)
    ordered = chosen.order_by(lineage.c.child_kind, lineage.c.child_id)
    return [(row["child_kind"], row["child_id"]) for row in sql.rows(connection, ordered)]


def snapshot_sources(connection: Connection, digest: str) -> dict[str, int]:
    """Recording → rows of a snapshot."""
    chosen = (
        select(snapshot_rows.c.source, func.count().label("n"))
        .where(snapshot_rows.c.snapshot == digest)
        .group_by(snapshot_rows.c.source)
        .order_by(snapshot_rows.c.source)
    )
    return {str(row["source"]): int(row["n"]) for row in sql.rows(connection, chosen)}


def snapshot_predictions(connection: Connection, digest: str, source: str | None = None) -> list[str]:
    """The predictions whose windows are in a snapshot."""
    chosen = select(snapshot_rows.c.prediction_id).where(snapshot_rows.c.snapshot == digest)
    if source is not None:
        chosen = chosen.where(snapshot_rows.c.source == source)
    return [str(row["prediction_id"]) for row in sql.rows(connection, chosen.order_by(snapshot_rows.c.prediction_id))]


def snapshots_with(connection: Connection, *, prediction_id: str | None = None, source: str | None = None) -> list[str]:
    """Snapshots that hold a prediction's window, or windows of a recording."""
    chosen = select(snapshot_rows.c.snapshot).distinct()
    if prediction_id is not None:
        chosen = chosen.where(snapshot_rows.c.prediction_id == prediction_id)
    if source is not None:
        chosen = chosen.where(snapshot_rows.c.source == source)
    return [str(row["snapshot"]) for row in sql.rows(connection, chosen)]


def prediction(connection: Connection, device: str, outbox_id: str, seq: int, index: int) -> Row | None:
    """One prediction's row."""
    return sql.find(connection, predictions, device=device, outbox_id=outbox_id, seq=seq, idx=index)


def count_predictions(connection: Connection, digests: list[str]) -> int:
    """How many predictions artifacts have made."""
    chosen = select(func.count()).select_from(predictions).where(predictions.c.digest.in_(digests))
    return int(sql.scalar(connection, chosen) or 0)


def reserved_counter(connection: Connection, model: str, counter: int) -> str | None:
    """The unfinished run for which a release counter is reserved."""
    chosen = select(runs.c.id).where(runs.c.model == model, runs.c.counter == counter, runs.c.state.in_(AT_WORK))
    found = sql.scalar(connection, chosen)
    return None if found is None else str(found)
