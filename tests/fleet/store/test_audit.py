"""The audit log's rows: older databases, and what several writers do. Rules: docs/spec/audit.md."""

from __future__ import annotations

import threading
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.dialects import postgresql

from outrider_fleet.domain.audit_check import check
from outrider_fleet.errors import StoreError
from outrider_fleet.store import audit, audit_file, sql
from outrider_fleet.store.database import open_database


def make_version_1(path: Path) -> None:
    """A database as the first release made it, with entries and a gap where one was rolled back."""
    engine = create_engine(f"sqlite:///{path}")
    with as_file(files("outrider_fleet.store") / "migrations") as directory, engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(directory))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        insert = "INSERT INTO audit (id, at_ms, actor, action, object, detail) VALUES (?, ?, ?, ?, ?, ?)"
        for row in (
            (1, 5, "local", "token.create", "operator:local", "null"),
            (4, 9, "operator:é", "x", "y", '{"n": 1.5}'),
        ):
            connection.exec_driver_sql(insert, row)
    engine.dispose()


def test_an_older_database(tmp_path: Path) -> None:
    """AUD-11: entries from before the chain are taken into it as they stand, numbered anew; it goes on from them."""
    path = tmp_path / "fleet.db"
    make_version_1(path)
    database = open_database(f"sqlite:///{path}")
    with database.write() as connection:
        assert audit.end(connection).seq == 2
        audit.append(connection, 10, "operator:eve", "z", "y", detail={"n": 2})
    database.close()
    with audit_file.opened(path) as log:
        report = check(log.rows, [], [])
    assert (report.whole, report.entries) == (True, 3)


def test_writers_in_turn(tmp_path: Path) -> None:
    """AUD-4: many threads append, and there is one chain."""
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    databases = [open_database(url) for _ in range(3)]

    def write(number: int) -> None:
        for n in range(20):
            with databases[number % 3].write() as connection:
                audit.append(connection, n, f"operator:{number}", "test", str(n))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in databases:
        database.close()
    with audit_file.opened(tmp_path / "fleet.db") as log:
        report = check(log.rows, [], [])
    assert (report.whole, report.entries) == (True, 120)


def test_postgresql_serialises_appending() -> None:
    """AUD-4: where the database has many writers at once, a lock keeps the chain one chain."""
    from sqlalchemy import func, select

    text = str(select(func.pg_advisory_xact_lock(audit.LOCK)).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    assert "pg_advisory_xact_lock" in text
    assert sql.exclusive.__doc__


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b'{"other": 1}\n', b"[1]\n", b"SQLite format 3\0broken"])
def test_what_is_no_log(tmp_path: Path, content: bytes) -> None:
    """AUD-6: a file that is no audit log is a named error; an empty one is an empty log."""
    path = tmp_path / "file"
    path.write_bytes(content)

    def read() -> int:
        with audit_file.opened(path) as log:
            return check(log.rows, [], []).entries

    if not content:
        assert read() == 0
        return
    with pytest.raises(StoreError):
        read()
    with pytest.raises(StoreError), audit_file.opened(tmp_path / "absent"):
        pass
