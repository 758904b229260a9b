"""The outbox's tables, opening and setting aside.

1. One SQLite file in WAL mode, `synchronous=FULL`: what a commit returned survives a power cut.
2. A file that SQLite calls damaged is renamed to `outbox.db.damaged-<n>` and a new one, with a new id, takes its place.
3. `gap` remembers each sequence that was given out and will never be sent: `shed`, `abandoned` or `lost`.

What a checker reads: the live keys of a stream are `1 … max(acked, last batch)` without its gaps.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from outrider_agent.durable import Durable
from outrider_agent.errors import OutboxError
from outrider_protocol.messages import STREAMS

SCHEMA_VERSION: Final = 1
DISK_HINT: Final = "Check free space and permissions of its directory."
_TABLES: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE stream (name TEXT PRIMARY KEY, next_seq INTEGER NOT NULL, acked INTEGER NOT NULL)",
    """CREATE TABLE batch (stream TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, n INTEGER NOT NULL,
        body BLOB NOT NULL, PRIMARY KEY (stream, seq))""",
    """CREATE TABLE gap (stream TEXT NOT NULL, seq INTEGER NOT NULL, reason TEXT NOT NULL, kind TEXT NOT NULL,
        n INTEGER NOT NULL, PRIMARY KEY (stream, seq))""",
)


class OutboxDamagedError(OutboxError):
    """SQLite cannot read the outbox: set the file aside and go on with a new one."""

    hint = "The damaged file was kept beside the outbox; what it held and had not been acknowledged is not sent."


def in_memory(outbox_id: str) -> sqlite3.Connection:
    """An outbox that ends with this process."""
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _create(database, outbox_id, 1)
    return database


def open_or_renew(path: Path, new_id: Callable[[], str], first_seq: int = 1) -> sqlite3.Connection:
    """Open the outbox, or set a damaged file aside and create a new one; raises `OutboxError` where the disk cannot."""
    try:
        return _open(path, new_id, first_seq)
    except OutboxDamagedError:
        set_aside(path)
        return _open(path, new_id, first_seq)


def set_aside(path: Path) -> Path:
    """Rename a damaged file (and drop its WAL); returns its new name."""
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    disk = Durable()
    disk.rename(path, kept)
    for suffix in ("-wal", "-shm"):
        disk.remove(path.with_name(path.name + suffix))
    return kept


def _open(path: Path, new_id: Callable[[], str], first_seq: int) -> sqlite3.Connection:
    fresh = not path.exists()
    try:
        database = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
    except sqlite3.OperationalError as error:
        raise OutboxError(f"{path}: {error}", DISK_HINT) from error
    try:
        path.chmod(0o600)
        _configure(database)
        if fresh or not _has_tables(database):
            _create(database, new_id(), first_seq)
        _check(database, path)
    except OutboxDamagedError:
        database.close()
        raise
    except (sqlite3.OperationalError, OSError) as error:  # a full disk, one that cannot be written any more
        database.close()
        raise OutboxError(f"{path}: {error}", DISK_HINT) from error
    except sqlite3.DatabaseError as error:
        database.close()
        raise OutboxDamagedError(f"{path}: {error}") from error
    return database


def _configure(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("PRAGMA cache_size=-1024")
    database.execute("PRAGMA journal_size_limit=4194304")


def _has_tables(database: sqlite3.Connection) -> bool:
    return int(database.execute("PRAGMA user_version").fetchone()[0]) == SCHEMA_VERSION


def _create(database: sqlite3.Connection, outbox_id: str, first_seq: int) -> None:
    database.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        database.execute(statement)
    database.execute("INSERT INTO meta VALUES ('outbox_id', ?), ('first_seq', ?)", (outbox_id, str(first_seq)))
    for name in STREAMS:
        database.execute("INSERT INTO stream VALUES (?, ?, ?)", (name, first_seq, 0))
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.execute("COMMIT")


def _check(database: sqlite3.Connection, path: Path) -> None:
    found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise OutboxDamagedError(f"{path}: {found}")
    if not database.execute("SELECT value FROM meta WHERE key = 'outbox_id'").fetchone():
        raise OutboxDamagedError(f"{path}: no outbox id")
