"""Drift status and events, labels and samples, as the drift policy and the labelled check need them."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, select

from outrider_fleet.store import sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import (
    artifacts,
    devices,
    drift_events,
    drift_status,
    labels,
    maintenance_events,
    policies,
    predictions,
    samples,
)


def status(connection: Connection, device: str, model: str) -> Row | None:
    """Where a device stands with a model."""
    return sql.find(connection, drift_status, device=device, model=model)


def put_status(connection: Connection, row: Row) -> None:
    """Write a status, or change columns of the one that is there."""
    key = and_(drift_status.c.device == row["device"], drift_status.c.model == row["model"])
    if sql.change(connection, drift_status, key, row) == 0:
        sql.insert(connection, drift_status, {"drifted": 0, **row})


def put_evidence(connection: Connection, device: str, digest: str, evidence: float) -> None:
    """What a device's detector has gathered, where that artifact is the one its status is about."""
    where = and_(drift_status.c.device == device, drift_status.c.digest == digest)
    sql.change(connection, drift_status, where, {"evidence": evidence})


def of_model(connection: Connection, model: str) -> list[Row]:
    """The status of every enrolled device with a model."""
    joined = select(drift_status).join(devices, devices.c.device == drift_status.c.device)
    chosen = joined.where(drift_status.c.model == model, devices.c.state == "enrolled")
    return sql.rows(connection, chosen.order_by(drift_status.c.device))


def models(connection: Connection) -> list[str]:
    """Models that any device reports drift of."""
    chosen = select(drift_status.c.model).distinct().order_by(drift_status.c.model)
    return [str(row["model"]) for row in sql.rows(connection, chosen)]


def uncleared(connection: Connection) -> list[Row]:
    """Statuses that say `rebaselining` and that no check has cleared for their artifact."""
    waiting = (drift_status.c.phase == "rebaselining") & (
        drift_status.c.cleared_digest.is_(None) | (drift_status.c.cleared_digest != drift_status.c.digest)
    )
    return sql.rows(connection, select(drift_status).where(waiting))


def cleared_unheard(connection: Connection, device: str) -> str | None:
    """The artifact for which a device is cleared and still says `rebaselining`."""
    unheard = and_(
        drift_status.c.device == device,
        drift_status.c.phase == "rebaselining",
        drift_status.c.cleared_digest == drift_status.c.digest,
    )
    digest = sql.scalar(connection, select(drift_status.c.digest).where(unheard))
    return None if digest is None else str(digest)


def add_event(connection: Connection, row: Row) -> None:
    """Record a drift event."""
    sql.insert(connection, drift_events, row)


def events(connection: Connection, *, after: int | None = None, limit: int = 100) -> list[Row]:
    """Drift events, newest first."""
    return sql.page(connection, select(drift_events), drift_events.c.id, after=after, limit=limit, newest_first=True)


def reference_accuracy(connection: Connection, digest: str) -> float | None:
    """What the artifact promised on its evaluation set."""
    value = sql.scalar(connection, select(artifacts.c.reference_accuracy).where(artifacts.c.digest == digest))
    return None if value is None else float(value)


def policy(connection: Connection, model: str) -> Row | None:
    """A model's policy."""
    return sql.find(connection, policies, model=model)


def all_policies(connection: Connection) -> list[Row]:
    """Every policy."""
    return sql.rows(connection, select(policies).order_by(policies.c.model))


def training_rows(connection: Connection, model: str) -> list[Row]:
    """Samples of a model with a `train` label, by prediction id."""
    joined = select(samples, labels.c.klass, labels.c.label, labels.c.source).join(
        labels, labels.c.prediction_id == samples.c.prediction_id
    )
    chosen = joined.where(samples.c.model == model, labels.c.use == "train")
    return sql.rows(connection, chosen.order_by(samples.c.prediction_id))


def count_training_rows(connection: Connection, model: str) -> int:
    """How many there are."""
    joined = select(func.count()).select_from(samples).join(labels, labels.c.prediction_id == samples.c.prediction_id)
    return int(sql.scalar(connection, joined.where(samples.c.model == model, labels.c.use == "train")) or 0)


def labelled_predictions(connection: Connection, device: str, digest: str) -> tuple[int, int]:
    """(correct, n) of a device's labelled predictions under one artifact."""
    same = and_(*(labels.c[name] == predictions.c[name] for name in ("device", "outbox_id", "seq", "idx")))
    joined = (
        select(func.count().label("n"), func.sum(_equal(predictions.c.klass, labels.c.klass)).label("correct"))
        .select_from(predictions)
        .join(labels, same)
    )
    row = sql.one(connection, joined.where(predictions.c.device == device, predictions.c.digest == digest))
    return (0, 0) if row is None else (int(row["correct"] or 0), int(row["n"]))


def _equal(left: ColumnElement[Any], right: ColumnElement[Any]) -> ColumnElement[int]:

    return case((left == right, 1), else_=0)


def mean_confidence(connection: Connection, digest: str) -> dict[str, tuple[float, int]]:
    """Device → (mean confidence, n) of its predictions under one artifact."""
    chosen = (
        select(predictions.c.device, func.avg(predictions.c.confidence).label("mean"), func.count().label("n"))
        .where(predictions.c.digest == digest)
        .group_by(predictions.c.device)
    )
    return {row["device"]: (float(row["mean"]), int(row["n"])) for row in sql.rows(connection, chosen)}


def open_maintenance(connection: Connection, device: str, model: str) -> Row | None:
    """A maintenance event that nobody closed."""
    waiting = and_(
        maintenance_events.c.device == device,
        maintenance_events.c.model == model,
        maintenance_events.c.closed_ms.is_(None),
    )
    return sql.one(connection, select(maintenance_events).where(waiting).limit(1))


def add_maintenance(connection: Connection, row: Row) -> None:
    """Open a maintenance event."""
    sql.insert(connection, maintenance_events, row)


def doubt(connection: Connection, device: str, model: str, text: str, now_ms: int) -> None:
    """Take a device for drifted without its own alarm, until a labelled check clears it; ask for somebody to look."""
    key = and_(drift_status.c.device == device, drift_status.c.model == model)
    cleared = {"cleared_by": None, "cleared_ms": None, "cleared_digest": None}
    sql.change(connection, drift_status, key, {"drifted": 1, **cleared})
    if open_maintenance(connection, device, model) is None:
        add_maintenance(connection, {"device": device, "model": model, "text": text, "created_ms": now_ms})


def maintenance(connection: Connection) -> list[Row]:
    """Open maintenance events."""
    waiting = select(maintenance_events).where(maintenance_events.c.closed_ms.is_(None))
    return sql.rows(connection, waiting.order_by(maintenance_events.c.id.desc()).limit(100))


def add_label(connection: Connection, row: Row) -> bool:
    """Record a label; False where the prediction has one."""
    return sql.insert_new(connection, labels, row)
