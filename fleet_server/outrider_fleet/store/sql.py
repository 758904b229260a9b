"""The few statements that SQL dialects spell differently, and reading rows as dictionaries.

1. `insert_new` ignores rows whose key exists already, and says how many were new.
2. `put` replaces the columns given, or inserts.
3. `page` walks a table by its key, never by offset.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Executable, Select, Table, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

Row = dict[str, Any]
PAGE: Final = 500
_INSERTS: Final[dict[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def insert(connection: Connection, table: Table, row: Mapping[str, Any]) -> int:
    """Insert one row; returns its `id` where the table draws one, else 0."""
    result = connection.execute(table.insert().values(row))
    key = result.inserted_primary_key
    return int(key[0]) if "id" in table.c and key is not None and isinstance(key[0], int) else 0


def insert_all(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert many rows at once."""
    if rows:
        connection.execute(table.insert(), list(rows))


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert unless the key exists; returns whether it was new."""
    statement = _INSERTS[connection.dialect.name](table).values(row).on_conflict_do_nothing()
    return connection.execute(statement).rowcount == 1


def put(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert, or replace the given columns of the row with the same primary key."""
    keys = [column.name for column in table.primary_key]
    statement = _INSERTS[connection.dialect.name](table).values(row)
    changed = {name: statement.excluded[name] for name in row if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))


def change(connection: Connection, table: Table, where: ColumnElement[bool], values: Mapping[str, Any]) -> int:
    """Update rows; returns how many there were."""
    return connection.execute(update(table).where(where).values(values)).rowcount


def remove(connection: Connection, table: Table, where: ColumnElement[bool]) -> int:
    """Delete rows; returns how many there were."""
    return connection.execute(delete(table).where(where)).rowcount


def one(connection: Connection, statement: Executable) -> Row | None:
    """The first row, or None."""
    row = connection.execute(statement).mappings().first()
    return None if row is None else dict(row)


def rows(connection: Connection, statement: Executable) -> list[Row]:
    """All rows."""
    return [dict(row) for row in connection.execute(statement).mappings()]


def scalar(connection: Connection, statement: Executable) -> Any:
    """The first column of the first row, or None."""
    return connection.execute(statement).scalar()


def find(connection: Connection, table: Table, **key: Any) -> Row | None:
    """The row with these column values, or None."""
    return one(connection, select(table).where(*(table.c[name] == value for name, value in key.items())))


def exclusive(connection: Connection, number: int) -> None:
    """Be the only transaction under this number until the end; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(number)))


def page(
    connection: Connection,
    statement: Select[Any],
    key: ColumnElement[Any],
    *,
    after: Any = None,
    limit: int = PAGE,
    newest_first: bool = False,
) -> list[Row]:
    """At most `limit` rows beyond the key `after`, in the order of the key."""
    if after is not None:
        statement = statement.where(key < after if newest_first else key > after)
    ordered = statement.order_by(key.desc() if newest_first else key)
    return rows(connection, ordered.limit(min(limit, PAGE)))
