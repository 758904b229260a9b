"""Numbers that are drawn, and settings. Ids are dense, ordered and never reused.

>>> numbered("ro", 7)
'ro-000007'
"""

from sqlalchemy import Connection

from outrider_fleet.store import sql
from outrider_fleet.store.tables import counters, settings


def draw(connection: Connection, name: str) -> int:
    """The next number of a counter, from 1; taken back if the transaction fails."""
    row = sql.find(connection, counters, name=name)
    value = 1 if row is None else int(row["value"]) + 1
    sql.put(connection, counters, {"name": name, "value": value})
    return value


def numbered(prefix: str, number: int) -> str:
    """An id that sorts by its number."""
    return f"{prefix}-{number:06d}"


def draw_id(connection: Connection, prefix: str) -> str:
    """The next id with this prefix."""
    return numbered(prefix, draw(connection, prefix))


def setting(connection: Connection, key: str) -> str | None:
    """A setting's value, or None."""
    row = sql.find(connection, settings, key=key)
    return None if row is None else str(row["value"])


def set_setting(connection: Connection, key: str, value: str) -> None:
    """Write a setting."""
    sql.put(connection, settings, {"key": key, "value": value})
