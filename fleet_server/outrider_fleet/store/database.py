"""Opening and migrating the fleet database; transactions.

1. `open_database` migrates to the newest version first; a database of a newer server is refused.
2. SQLite: WAL, `synchronous=FULL`, foreign keys, writers one after the other (`BEGIN IMMEDIATE`).
3. A transaction that fails leaves nothing behind.

    database = open_database(f"sqlite:///{home / 'fleet.db'}")
    with database.write() as connection:
        connection.execute(...)
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from outrider_fleet.errors import StoreError, StoreTooNewError

BUSY_TIMEOUT_MS: Final = 30_000
_WRITE: Final = "outrider_write"


class Database:
    """An open, migrated database. Reading and writing may happen in any thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writer = threading.Lock()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction; commits at the end, or rolls back and lets the error through."""
        with self._writer, self.engine.connect().execution_options(**{_WRITE: True}) as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Open, migrate and return; raises `StoreError` or `StoreTooNewError`."""
    engine = _engine(url)
    try:
        _migrate(engine)
    except SQLAlchemyError as error:
        engine.dispose()
        raise StoreError(f"{engine.url.render_as_string()}: {error}") from error
    except StoreError:
        engine.dispose()
        raise
    return Database(engine)


def _engine(url: str) -> Engine:
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`, not by the driver's guess
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-16384",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine) -> None:
    with as_file(files("outrider_fleet.store") / "migrations") as directory:
        config = Config()
        config.set_main_option("script_location", str(directory))
        with engine.connect().execution_options(**{_WRITE: True}) as connection, connection.begin():
            _refuse_newer(config, connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _refuse_newer(config: Config, connection: Connection) -> None:
    present = MigrationContext.configure(connection).get_current_revision()
    if present is None:
        return
    try:
        known = ScriptDirectory.from_config(config).get_revision(present)
    except CommandError:
        known = None
    if known is None:  # [STO-7]
        raise StoreTooNewError(f"the database is at version {present}, which this server does not know")
