"""The audit log's rows: appended in the transaction that they tell of, each with the hash of the one before.

1. One writer at a time: sequences are dense, and two entries never follow the same one.
2. What is not JSON, or too long, is made so before it is hashed: a strange text never fails the transaction.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, Select, select

from outrider_fleet.store import sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import audit, audit_heads
from outrider_protocol import ids, limits
from outrider_protocol.audit import START, Entry, Link

LOCK: Final = 0x6F7574  # any number that nothing else takes
TEXT: Final = 1000
HOUR_MS: Final = 3_600_000
DETAIL_BYTES: Final = limits.AUDIT_ENTRY_BYTES // 2
_END: Final = select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)
_INSERT: Final = audit.insert()


def append(
    connection: Connection,
    at_ms: int,
    actor: str,
    action: str,
    what: str,
    *,
    token: str | None = None,
    request_sha256: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> Link:
    """Add an entry within the transaction; returns the chain's new end."""
    sql.exclusive(connection, LOCK)
    last = end(connection)
    entry = Entry(
        last.seq + 1,
        at_ms,
        _text(actor),
        token,
        _text(action),
        _text(what),
        request_sha256,
        _detail(detail) if detail is not None else None,
        last.hash,
    )
    connection.execute(_INSERT, row_of(entry))
    return entry.link


def end(connection: Connection) -> Link:
    """The newest entry's place in the chain."""
    row = connection.execute(_END).first()
    return START if row is None else Link(row[0], row[1])


def link(connection: Connection, seq: int) -> Link | None:
    """An entry's place in the chain, None where there is none."""
    hashed = sql.scalar(connection, select(audit.c.hash).where(audit.c.id == seq))
    return START if seq == 0 else None if hashed is None else Link(seq, str(hashed))


def row_of(entry: Entry) -> Row:
    """An entry as a row."""
    named = {name: getattr(entry, name) for name in ("at_ms", "actor", "token", "action", "object", "request_sha256")}
    return {"id": entry.seq, **named, "detail": entry.detail, "prev": entry.prev, "hash": entry.link.hash}


def entry_of(row: Mapping[str, Any]) -> Entry:
    """A row as an entry; its hash is not looked at."""
    named = {name: row[name] for name in ("at_ms", "actor", "token", "action", "object", "request_sha256")}
    detail = json.loads(row["detail"]) if isinstance(row["detail"], str) else row["detail"]
    return Entry(seq=row["id"], **named, detail=detail, prev=row["prev"])


def after(connection: Connection, seq: int, limit: int = sql.PAGE) -> list[Row]:
    """The entries that follow, oldest first."""
    return sql.page(connection, select(audit), audit.c.id, after=seq, limit=limit)


def newest(
    connection: Connection, *, before: int | None, limit: int, action: str | None = None, actor: str | None = None
) -> list[Row]:
    """Entries, newest first; `action` and `actor` are beginnings."""
    chosen: Select[Any] = select(audit)
    for column, start in ((audit.c.action, action), (audit.c.actor, actor)):
        if start:
            chosen = chosen.where(column.startswith(start, autoescape=True))
    return sql.page(connection, chosen, audit.c.id, after=before, limit=limit, newest_first=True)


def newest_head(connection: Connection) -> Row | None:
    """The signed head that reaches furthest."""
    return sql.one(connection, select(audit_heads).order_by(audit_heads.c.seq.desc()).limit(1))


def put_head(connection: Connection, at_ms: int, seq: int, hashed: str, envelope: bytes) -> None:
    """Keep a signed head; of each hour, the last one is kept."""
    former = newest_head(connection)
    if former is not None and former["at_ms"] // HOUR_MS == at_ms // HOUR_MS:
        connection.execute(audit_heads.delete().where(audit_heads.c.seq == former["seq"]))
    sql.put(connection, audit_heads, {"seq": seq, "hash": hashed, "at_ms": at_ms, "envelope": envelope.decode()})


def _text(value: str) -> str:
    r"""At most `TEXT` characters that UTF-8 can express.

    >>> _text("a\ud800")
    'a\\ud800'
    """
    return str(value)[:TEXT].encode("utf-8", "backslashreplace").decode()


def _detail(value: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = _plain(value)
    data = json.dumps(plain, sort_keys=True).encode()
    return plain if len(data) <= DETAIL_BYTES else {"bytes": len(data), "digest": ids.digest_of(data)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_text(str(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (bool, int)) else _text(str(value))
