"""The store: migration, transactions, paging. Rules: docs/spec/store.md."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from outrider_fleet.errors import StoreError, StoreTooNewError
from outrider_fleet.store import counters, sql
from outrider_fleet.store.database import Database, open_database
from outrider_fleet.store.tables import blobs, maintenance_events, metadata, settings

SPEC = Path(__file__).parents[3] / "docs" / "spec" / "store.md"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_database(f"sqlite:///{tmp_path / 'fleet.db'}")
    yield made
    made.close()


def test_migration_makes_the_tables(database: Database) -> None:
    """STO-1 and STO-2: an empty file becomes exactly what `tables` says."""
    with database.read() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    assert differences == []


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    """STO-1: a database that is up to date is left as it is."""
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    open_database(url).close()
    before = (tmp_path / "fleet.db").read_bytes()
    open_database(url).close()
    assert (tmp_path / "fleet.db").read_bytes() == before


def test_sqlite_settings(database: Database) -> None:
    """STO-3: WAL, FULL, foreign keys."""
    with database.read() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]


def test_failed_transaction_leaves_nothing(database: Database) -> None:
    """STO-3: all of a transaction or nothing, its counters included."""

    def fail() -> None:
        with database.write() as connection:
            counters.draw(connection, "ro")
            counters.set_setting(connection, "k", "v")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.write() as connection:
        assert counters.setting(connection, "k") is None
        assert counters.draw(connection, "ro") == 1


def test_writers_wait_for_each_other(database: Database) -> None:
    """STO-3 and STO-6: many threads draw, and every number is drawn once."""
    drawn: list[int] = []

    def draw() -> None:
        for _ in range(10):
            with database.write() as connection:
                drawn.append(counters.draw(connection, "run"))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(drawn) == list(range(1, 41))


def test_ids_sort(database: Database) -> None:
    """STO-6: ids are dense and ordered as text."""
    with database.write() as connection:
        ids = [counters.draw_id(connection, "ro") for _ in range(12)]
    assert ids == sorted(ids)
    assert ids[0] == "ro-000001"


@pytest.mark.parametrize("newest_first", [False, True])
def test_paging_by_key(database: Database, *, newest_first: bool) -> None:
    """STO-5: pages by key miss nothing and repeat nothing, also while rows are added."""
    names = [f"sha256:{n:064d}" for n in range(25)]
    with database.write() as connection:
        sql.insert_all(connection, blobs, [{"digest": name, "size": 1, "created_ms": 0} for name in names])
    seen: list[str] = []
    with database.read() as connection:
        while page := sql.page(
            connection,
            select(blobs),
            blobs.c.digest,
            after=seen[-1] if seen else None,
            limit=10,
            newest_first=newest_first,
        ):
            seen += [row["digest"] for row in page]
    assert seen == sorted(names, reverse=newest_first)


def test_insert_new_and_put(database: Database) -> None:
    """STO-2: the statements that dialects spell differently do what they say."""
    row = {"digest": "sha256:" + "0" * 64, "size": 1, "created_ms": 0}
    with database.write() as connection:
        assert sql.insert_new(connection, blobs, row)
        assert not sql.insert_new(connection, blobs, {**row, "size": 2})
        sql.put(connection, blobs, {**row, "size": 3})
        assert sql.find(connection, blobs, digest=row["digest"]) == {**row, "size": 3, "published_ms": None}
        row = {"device": "d", "model": "m", "text": "t", "created_ms": 1}
        assert sql.insert(connection, maintenance_events, row) == 1


def test_newer_database_is_refused(tmp_path: Path) -> None:
    """STO-7: a database that this server does not know is left alone."""
    path = tmp_path / "fleet.db"
    open_database(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreTooNewError):
        open_database(f"sqlite:///{path}")


def test_unusable_database(tmp_path: Path) -> None:
    """STO-7: a file that is no database is a named error."""
    (tmp_path / "fleet.db").write_bytes(b"no database at all, but long enough to be looked at" * 40)
    with pytest.raises(StoreError):
        open_database(f"sqlite:///{tmp_path / 'fleet.db'}")


def test_page_says_what_the_code_has() -> None:
    """STO-8: docs/spec/store.md lists every table and column, and no others."""
    said = {}
    text = SPEC.read_text("utf-8").replace("\n  ", " ")
    for name, columns in re.findall(r"^- `(\w+)`: ([^.]+)\.", text, re.MULTILINE):
        said[name] = {column.strip(" *?") for column in columns.split(",")}
    assert said == {name: {column.name for column in table.c} for name, table in metadata.tables.items()}


def test_primary_keys_are_bold() -> None:
    """STO-8: what stands in bold is the primary key."""
    text = SPEC.read_text("utf-8").replace("\n  ", " ")
    for name, columns in re.findall(r"^- `(\w+)`: ([^.]+)\.", text, re.MULTILINE):
        bold = set(re.findall(r"\*\*(\w+)\*\*", columns))
        assert bold == {column.name for column in metadata.tables[name].primary_key}, name


def test_postgresql_understands_the_tables() -> None:
    """STO-2: the schema compiles for PostgreSQL as well."""
    for table in metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    assert settings.name == "settings"
