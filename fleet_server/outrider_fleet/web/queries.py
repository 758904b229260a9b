"""What the pages read: bounded, by key, and nothing else.

1. Every function reads, and returns at most `LIMIT` rows, newest or lowest key first.
2. Lists are paged by the last key seen; what is counted is counted by the database, in groups.
3. Rows go on to `views` as they are: no formatting here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, func, or_, select, tuple_

from outrider_fleet.store import tables as t
from outrider_protocol.errors import ProtocolError
from outrider_protocol.ids import PredictionId

LIMIT: Final = 200
Row = Mapping[str, Any]
Rows = Sequence[Row]
Key = tuple[int, str]  # created_ms, id: of the last row seen


def _rows(connection: Connection, query: Select[Any], limit: int = LIMIT) -> Rows:
    return [dict(row._mapping) for row in connection.execute(query.limit(min(limit, LIMIT)))]


def _one(connection: Connection, query: Select[Any]) -> Row | None:
    return next(iter(_rows(connection, query, 1)), None)


def devices(connection: Connection, after: str = "", limit: int = LIMIT) -> Rows:
    """Devices by name, after the one given."""
    return _rows(connection, select(t.devices).where(t.devices.c.device > after).order_by(t.devices.c.device), limit)


def device(connection: Connection, name: str) -> Row | None:
    """One device."""
    return _one(connection, select(t.devices).where(t.devices.c.device == name))


def device_counts(connection: Connection) -> Rows:
    """How many devices (`n`) by state and online, and how many of them attest what they report (`attested`)."""
    d = t.devices.c
    attested = func.count().filter(d.attest_digest == d.digest)
    return _rows(
        connection,
        select(d.state, d.online, func.count().label("n"), attested.label("attested")).group_by(d.state, d.online),
    )


def drift_of(connection: Connection, names: Sequence[str]) -> Rows:
    """Drift status of these devices."""
    return _rows(connection, select(t.drift_status).where(t.drift_status.c.device.in_(names[:LIMIT])))


def latest_executions(connection: Connection, names: Sequence[str]) -> Rows:
    """The newest execution of each of these devices that was ordered, or waits to be."""
    e = t.executions.c
    newest = select(func.max(e.id)).where(e.device.in_(names[:LIMIT])).group_by(e.device)
    return _rows(connection, select(t.executions).where(e.id.in_(newest)))


def _before(table: Any, key: Any, seen: Key | None) -> Select[Any]:
    query = select(table)
    if seen is not None:
        query = query.where(tuple_(table.c.created_ms, key) < tuple_(*seen))
    return query.order_by(table.c.created_ms.desc(), key.desc())


def rollouts(connection: Connection, seen: Key | None = None, limit: int = LIMIT) -> Rows:
    """Rollouts, newest first."""
    return _rows(connection, _before(t.rollouts, t.rollouts.c.id, seen), limit)


def rollout(connection: Connection, name: str) -> Row | None:
    """One rollout."""
    return _one(connection, select(t.rollouts).where(t.rollouts.c.id == name))


def rollout_states(connection: Connection) -> Rows:
    """How many rollouts (`n`) are in each state."""
    return _rows(connection, select(t.rollouts.c.state, func.count().label("n")).group_by(t.rollouts.c.state))


def progress(connection: Connection, rollout_id: str) -> Rows:
    """How many executions (`n`) of a rollout stand in each phase and state, and how many of them are exposed."""
    e = t.executions.c
    query = select(e.phase, e.state, func.count().label("n"), func.count(e.ordered_ms).label("exposed"))
    return _rows(connection, query.where(e.rollout == rollout_id, e.purpose == "rollout").group_by(e.phase, e.state))


def executions(connection: Connection, rollout_id: str, after: str = "", limit: int = LIMIT) -> Rows:
    """Executions of a rollout by device."""
    e = t.executions.c
    query = select(t.executions).where(e.rollout == rollout_id, e.device > after).order_by(e.device, e.id)
    return _rows(connection, query, limit)


def device_executions(connection: Connection, name: str, limit: int = LIMIT) -> Rows:
    """Executions of a device, newest first."""
    e = t.executions.c
    return _rows(connection, select(t.executions).where(e.device == name).order_by(e.id.desc()), limit)


def execution_events(connection: Connection, name: str, limit: int = LIMIT) -> Rows:
    """What a device reported of its executions, newest first."""
    e = t.execution_events.c
    return _rows(connection, select(t.execution_events).where(e.device == name).order_by(e.id.desc()), limit)


def rollout_events(connection: Connection, rollout_id: str, limit: int = LIMIT) -> Rows:
    """What happened in a rollout, newest first."""
    e = t.rollout_events.c
    return _rows(connection, select(t.rollout_events).where(e.rollout == rollout_id).order_by(e.id.desc()), limit)


def streams(connection: Connection, name: str) -> Rows:
    """Up to where a device's telemetry is committed."""
    s = t.streams.c
    return _rows(connection, select(t.streams).where(s.device == name).order_by(s.updated_ms.desc()))


def predictions(connection: Connection, name: str, outbox_id: str, limit: int = LIMIT) -> Rows:
    """The latest predictions that a device sent from its present outbox, newest first."""
    p = t.predictions.c
    query = select(p.at_ms, p.digest, p.confidence).where(p.device == name, p.outbox_id == outbox_id)
    return _rows(connection, query.order_by(p.seq.desc(), p.idx.desc()), limit)


def drift_counts(connection: Connection) -> Rows:
    """By model, phase and `drifted`: how many devices, and the mean of their estimates of accuracy."""
    s = t.drift_status.c
    query = select(s.model, s.phase, s.drifted, func.count().label("n"))
    query = query.add_columns(
        func.count(s.estimated_accuracy).label("estimates"), func.sum(s.estimated_accuracy).label("estimated_sum")
    )
    return _rows(connection, query.group_by(s.model, s.phase, s.drifted).order_by(s.model))


def reference_accuracy(connection: Connection) -> Rows:
    """By model: the mean reference accuracy of the artifacts whose drift is watched."""
    s, a = t.drift_status.c, t.artifacts.c
    query = select(s.model, func.avg(a.reference_accuracy).label("accuracy"))
    return _rows(connection, query.join_from(t.drift_status, t.artifacts, s.digest == a.digest).group_by(s.model))


def cleared(connection: Connection, model: str) -> Rows:
    """Devices whose drift was cleared, latest first."""
    s = t.drift_status.c
    query = select(t.drift_status).where(s.model == model, s.cleared_ms.is_not(None))
    return _rows(connection, query.order_by(s.cleared_ms.desc()))


def drift_events(
    connection: Connection, *, model: str | None = None, name: str | None = None, limit: int = LIMIT
) -> Rows:
    """Drift events of a model, or of a device, newest first."""
    e = t.drift_events.c
    chosen = and_(*([e.model == model] if model is not None else []), *([e.device == name] if name is not None else []))
    return _rows(connection, select(t.drift_events).where(chosen).order_by(e.id.desc()), limit)


def maintenance(connection: Connection, limit: int = LIMIT) -> Rows:
    """Open maintenance events, newest first."""
    m = t.maintenance_events.c
    return _rows(connection, select(t.maintenance_events).where(m.closed_ms.is_(None)).order_by(m.id.desc()), limit)


def autonomy(connection: Connection) -> dict[str, str]:
    """Each model's autonomy level, where one was set."""
    p = t.policies.c
    return {row["model"]: row["autonomy"] for row in _rows(connection, select(p.model, p.autonomy).order_by(p.model))}


def releases(connection: Connection, seen: Key | None = None, limit: int = LIMIT) -> Rows:
    """Releases, newest first; the key's id is `model/version`."""
    r = t.releases.c
    return _rows(connection, _before(t.releases, r.model + "/" + r.version, seen), limit)


def artifacts(connection: Connection, keys: Sequence[tuple[str, str]]) -> Rows:
    """Artifacts of these releases (model, version), by profile."""
    a = t.artifacts.c
    chosen = or_(*(and_(a.model == model, a.version == version) for model, version in keys[:LIMIT]), a.digest == "")
    return _rows(connection, select(t.artifacts).where(chosen).order_by(a.profile))


def running(connection: Connection) -> Rows:
    """How many devices (`n`) attest each digest, the most frequent first."""
    d = t.devices.c
    query = select(d.attest_digest.label("digest"), func.count().label("n")).where(d.attest_digest.is_not(None))
    return _rows(connection, query.group_by(d.attest_digest).order_by(func.count().desc()))


def release_names(connection: Connection, digests: Sequence[str]) -> dict[str, str]:
    """`model version` of the releases that these artifacts belong to."""
    a = t.artifacts.c
    rows = _rows(connection, select(a.digest, a.model, a.version).where(a.digest.in_(digests[:LIMIT])))
    return {row["digest"]: f"{row['model']} {row['version']}" for row in rows}


def runs(connection: Connection, seen: Key | None = None, limit: int = LIMIT) -> Rows:
    """Training runs, newest first."""
    return _rows(connection, _before(t.runs, t.runs.c.id, seen), limit)


def snapshots(connection: Connection, limit: int = LIMIT) -> Rows:
    """Dataset snapshots, newest first."""
    return _rows(connection, _before(t.snapshots, t.snapshots.c.digest, None), limit)


def exists(connection: Connection, kind: str, name: str) -> bool:
    """Whether the store holds a release, run, snapshot or rollout of this name."""
    r = t.releases.c
    keys = {
        "release": r.model + "/" + r.version,
        "run": t.runs.c.id,
        "snapshot": t.snapshots.c.digest,
        "rollout": t.rollouts.c.id,
    }
    return kind in keys and _one(connection, select(keys[kind].label("id")).where(keys[kind] == name)) is not None


def parents(connection: Connection, kind: str, name: str) -> Rows:
    """What this was made from: rows with `kind` and `id`."""
    e = t.lineage.c
    query = select(e.parent_kind.label("kind"), e.parent_id.label("id"))
    written = _rows(
        connection, query.where(e.child_kind == kind, e.child_id == name).order_by(e.parent_kind, e.parent_id)
    )
    if kind == "snapshot":
        return [*written, *_sources(connection, name)]
    return _of_prediction(connection, name) if kind == "prediction" else written


def _sources(connection: Connection, digest: str) -> Rows:
    found = _one(connection, select(t.snapshots.c.sources).where(t.snapshots.c.digest == digest))
    sources = found["sources"] if found and isinstance(found["sources"], list) else []
    return [{"kind": "recording", "id": str(source)} for source in sources[:LIMIT]]


def _of_prediction(connection: Connection, name: str) -> Rows:
    """The release whose artifact made a prediction, and its device by pseudonym."""
    try:
        where = PredictionId.parse(name)
    except ProtocolError:
        return []
    p, a, d = t.predictions.c, t.artifacts.c, t.devices.c
    key = (p.device == where.device, p.outbox_id == where.outbox_id, p.seq == where.seq, p.idx == where.index)
    query = select((a.model + "/" + a.version).label("release"), d.pseudonym)
    joined = query.join_from(t.predictions, t.devices, p.device == d.device).join(t.artifacts, p.digest == a.digest)
    found = _one(connection, joined.where(*key))
    made = (("device", "pseudonym"), ("release", "release"))
    return [{"kind": kind, "id": found[column]} for kind, column in made] if found else []


def children(connection: Connection, kind: str, name: str) -> Rows:
    """What was made from this: rows with `kind` and `id`."""
    e, s = t.lineage.c, t.snapshot_rows.c
    query = select(e.child_kind.label("kind"), e.child_id.label("id"))
    written = _rows(
        connection, query.where(e.parent_kind == kind, e.parent_id == name).order_by(e.child_kind, e.child_id)
    )
    column = {"recording": s.source, "prediction": s.prediction_id}.get(kind)
    if column is None:
        return written
    held = _rows(connection, select(s.snapshot).distinct().where(column == name).order_by(s.snapshot))
    return [*({"kind": "snapshot", "id": row["snapshot"]} for row in held), *written]
