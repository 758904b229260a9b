"""Dataset snapshots: the labelled windows of a model, frozen in an SQLite file that anyone can open.

1. In it: every sample of the model with a label of use `train`. A `check` label never enters.
2. The file's digest is its name and is recorded with every row's source.
3. The same rows give the same snapshot.
"""

import json
import sqlite3
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import sqlite_utils

from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.errors import ConflictError, UnknownError
from outrider_fleet.store import drift, sql, training
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import snapshot_rows, snapshots

_COLUMNS: Final = ("prediction_id", "label", "klass", "source", "dtype", "shape", "x")


def create(fleet: Fleet, model: str, actor: str) -> Row:
    """Freeze what is there now; returns the snapshot's row. Raises `ConflictError` when there is nothing."""
    with fleet.look() as connection:
        found = drift.training_rows(connection, model)
    if not found:
        raise ConflictError(f"{model}: no sample has a label for training")
    path = _write(fleet, model, found)
    with fleet.change() as change:
        row = _record(change, model, path, found, actor)
        change.touch("snapshots")
    return row


def _write(fleet: Fleet, model: str, found: list[Row]) -> Path:
    fleet.home.snapshots.mkdir(parents=True, exist_ok=True)
    beside = fleet.home.snapshots / f".{fleet.random_hex(8)}.new"
    database = sqlite_utils.Database(sqlite3.connect(beside))
    database.table("samples").insert_all(map(_sample, found), pk="prediction_id")
    meta = {"model": model, "n": len(found), "sources": json.dumps(_sources(found))}
    database.table("meta").insert_all(({"key": key, "value": str(value)} for key, value in meta.items()), pk="key")
    database.vacuum()
    database.conn.close()
    path = fleet.home.snapshots / f"{sha256(beside.read_bytes()).hexdigest()}.db"
    return beside.replace(path)


def _sample(row: Row) -> dict[str, Any]:
    return {**{name: row[name] for name in _COLUMNS}, "shape": json.dumps(row["shape"])}


def _sources(found: list[Row]) -> list[str]:
    return sorted({row["source"] for row in found})


def _record(change: Change, model: str, path: Path, found: list[Row], actor: str) -> Row:
    digest = f"sha256:{path.stem}"
    known = training.snapshot(change.connection, digest)
    if known is not None:
        return known
    row = {
        "digest": digest,
        "model": model,
        "file": f"snapshots/{path.name}",
        "n": len(found),
        "sources": _sources(found),
        "created_by": actor,
        "created_ms": change.now_ms,
    }
    sql.insert(change.connection, snapshots, row)
    members = [
        {"snapshot": digest, **{name: item[name] for name in ("prediction_id", "label", "source")}} for item in found
    ]
    sql.insert_all(change.connection, snapshot_rows, members)
    change.audit(actor, "snapshot.create", digest, {"n": len(found), "sources": row["sources"]})
    return row


def file_of(fleet: Fleet, digest: str) -> Path:
    """Where a snapshot lies; raises `UnknownError`."""
    with fleet.look() as connection:
        row = training.snapshot(connection, digest)
    if row is None:
        raise UnknownError(f"snapshot {digest}")
    return fleet.home.path / str(row["file"])
