"""Reads an audit log without a server: a copy of `fleet.db`, or lines that `audit export` wrote.

1. Nothing is written, nothing is migrated; a file that is neither is a named error.
2. A torn last line (a copy that was broken off) is left out and told.

    {"entry": {...}, "hash": "…"}        one line an entry, oldest first
    {"head": "{…DSSE envelope…}"}        and one a signed head
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from outrider_fleet.domain.audit_check import Stored
from outrider_fleet.errors import StoreError
from outrider_fleet.store.audit import entry_of
from outrider_protocol import canonical
from outrider_protocol.audit import Entry, Link
from outrider_protocol.errors import ProtocolError

_SQLITE: Final = b"SQLite format 3\0"
_BATCH: Final = 1000


@dataclass(frozen=True)
class LogFile:
    """`rows` may be walked once; `heads` are envelopes, nothing in them is trusted yet."""

    rows: Iterable[Stored]
    heads: list[bytes]
    torn: bool = False


@contextmanager
def opened(path: Path) -> Iterator[LogFile]:
    """A log's file, open as long as the `with` lasts; raises `StoreError`."""
    try:
        with path.open("rb") as file:
            is_database = file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    if not is_database:
        yield _lines(path)
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            heads = [row["envelope"].encode() for row in connection.execute("SELECT * FROM audit_heads ORDER BY seq")]
            yield LogFile(_rows(connection), heads)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error


def _rows(connection: sqlite3.Connection) -> Iterator[Stored]:
    cursor = connection.execute("SELECT * FROM audit ORDER BY id")
    while rows := cursor.fetchmany(_BATCH):
        yield from (_stored(dict(row)) for row in rows)


def _stored(row: dict[str, Any]) -> Stored:
    try:
        entry = entry_of(row)
        entry.encode()
        return Stored(entry, str(row["hash"]), row["id"])
    except (ProtocolError, ValueError):  # what cannot be hashed
        return Stored(None, str(row["hash"]), row["id"])


def _lines(path: Path) -> LogFile:
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    found = [_line(path, number, line) for number, line in enumerate(whole.splitlines(), start=1)]
    heads = [item["head"].encode() for item in found if "head" in item]
    rows = (_exported(item) for item in found if "entry" in item)
    return LogFile(rows, heads, torn=len(whole) < len(data))


def _line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        item = json.loads(line)
        if isinstance(item.get("entry"), dict) or isinstance(item.get("head"), str):
            return dict(item)
    except (ValueError, AttributeError):
        pass
    raise StoreError(f"{path}, line {number}: neither an entry nor a head: this is no audit log")


def _exported(item: dict[str, Any]) -> Stored:
    seq = item["entry"].get("seq")
    try:
        entry = Entry.decode(canonical.encode(item["entry"]))
    except ProtocolError:
        return Stored(None, str(item.get("hash")), seq if isinstance(seq, int) else 0)
    return Stored(entry, str(item.get("hash")), entry.seq)


def export_entry(row: dict[str, Any]) -> bytes:
    """A row as a line."""
    entry = json.loads(entry_of(row).encode())
    return canonical.encode({"entry": entry, "hash": row["hash"]}) + b"\n"


def export_head(envelope: str) -> bytes:
    """A head as a line."""
    return canonical.encode({"head": envelope}) + b"\n"


def heads_in_journal(path: Path) -> list[Link]:
    """The heads that the signer's own log says it signed and did not give up; raises `StoreError`."""
    from outrider_fleet.signing.heads import KIND, REOPENED

    try:
        whole = path.read_bytes().rpartition(b"\n")[0]
        found: list[Link] = []
        for line in map(json.loads, whole.splitlines()):
            if line["kind"] == REOPENED:
                found = [link for link in found if link.seq <= line["seq"]]
            elif line["kind"] == KIND:
                found.append(Link(line["seq"], line["hash"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: {error}") from error
    return found
