"""The outbox: batches wait here until the server says that it has committed them.

1. A sequence is durable before it is given out (`reserve`), so that no key is ever used twice, whatever is killed.
2. Batches are sent in order, up to the first open reservation; `abandon` closes one that will never be filled.
3. `prev` of a batch is the previous live sequence: shed and abandoned ones leave declared gaps.
4. Only an ack deletes; one that is ahead of us (this file was restored from a copy) raises our next sequence.
5. Bounded: above `limit_bytes` the oldest samples go first, then windows, then predictions; events never.
6. An event is committed when `put` returns; bulk batches when `commit` does (at most once a second in the supervisor).
   Only committed batches are sent.
7. After a crash, a sequence that was given out and has no batch is abandoned.
8. While the disk takes nothing, what waits in memory is bounded too: the oldest goes, events never.
9. Gaps are remembered up to `GAPS_KEPT`; older ones are below `gaps_from`, where no batch comes any more.

    outbox = Outbox.open(Path("outbox.db"), limit_bytes=64 << 20)
    seq = outbox.reserve("bulk")          # → the worker, which numbers its predictions with it
    outbox.fill("bulk", seq, "predictions", 250, body)
    outbox.commit()
    for item in outbox.sendable("bulk", after=0, limit=16): ...
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from outrider_agent.errors import OutboxError
from outrider_agent.outbox import schema
from outrider_protocol.messages import STREAMS

BLOCK: Final = 32  # sequences made durable at once, so that a lease rarely waits for the disk
SHED_ORDER: Final = ("samples", "windows", "predictions")
WAITING_BYTES: Final = 4 * 1024 * 1024
GAPS_KEPT: Final = 20_000


@dataclass(frozen=True)
class Item:
    """One committed batch; `prev` is the sequence before it that is live or was acknowledged."""

    stream: str
    seq: int
    prev: int
    kind: str
    n: int
    body: bytes


@dataclass(frozen=True)
class _Pending:
    stream: str
    seq: int
    kind: str
    n: int
    body: bytes


class Outbox:
    """One outbox file; used by one process."""

    def __init__(self, database: sqlite3.Connection, path: Path, limit_bytes: int) -> None:
        self._database, self.path, self.limit_bytes = database, path, limit_bytes
        self.outbox_id: str = database.execute("SELECT value FROM meta WHERE key = 'outbox_id'").fetchone()[0]
        self._ceiling: dict[str, int] = {}
        self._acked: dict[str, int] = {}
        for name, next_seq, acked in database.execute("SELECT name, next_seq, acked FROM stream"):
            self._ceiling[name], self._acked[name] = next_seq, acked
        self._next = dict(self._ceiling)
        self._open: dict[str, set[int]] = {name: set() for name in STREAMS}
        self._sent: dict[str, int] = dict.fromkeys(STREAMS, 0)
        self._pending: list[_Pending] = []
        self._gaps: list[tuple[str, int, str, str, int]] = []
        self._waiting_bytes = 0
        self._gaps_kept = 0
        self._recover()
        self._bytes = int(database.execute("SELECT coalesce(sum(length(body)), 0) FROM batch").fetchone()[0])

    @classmethod
    def open(
        cls, path: Path, limit_bytes: int, new_id: Callable[[], str] = lambda: secrets.token_hex(8), first_seq: int = 1
    ) -> Outbox:
        """Open or create; a damaged file is set aside."""
        return cls(schema.open_or_renew(path, new_id, first_seq), path, limit_bytes)

    @classmethod
    def in_memory(cls, path: Path, new_id: Callable[[], str] = lambda: secrets.token_hex(8)) -> Outbox:
        """What stands in for the file while the disk does not let it be opened: small, and gone with this process."""
        return cls(schema.in_memory(new_id()), path, WAITING_BYTES)

    def renew(self, new_id: Callable[[], str] = lambda: secrets.token_hex(8)) -> Outbox:
        """After `OutboxDamagedError`: set this file aside; the new outbox is numbered above everything given out."""
        self._database.close()
        schema.set_aside(self.path)
        return Outbox.open(self.path, self.limit_bytes, new_id, first_seq=max(self._next.values()))

    def reserve(self, stream: str) -> int:
        """Give out the next sequence; it is durable when this returns."""
        seq = self._next[stream]
        if seq >= self._ceiling[stream]:
            self._raise_ceiling(stream, seq + BLOCK)
        self._next[stream] = seq + 1
        self._open[stream].add(seq)
        return seq

    def is_open(self, stream: str, seq: int) -> bool:
        """Whether `seq` was reserved and is neither filled nor abandoned."""
        return seq in self._open[stream]

    def fill(self, stream: str, seq: int, kind: str, n: int, body: bytes) -> None:
        """Give a reserved sequence its batch; durable after `commit`."""
        self._close(stream, seq)
        self._wait(_Pending(stream, seq, kind, n, body))

    def abandon(self, stream: str, seq: int, n: int = 0) -> None:
        """A reserved sequence will never have a batch."""
        self._close(stream, seq)
        self._gaps.append((stream, seq, "abandoned", "", n))

    def put(self, stream: str, kind: str, n: int, body: bytes) -> int:
        """Append a batch; an event is durable when this returns, others after `commit`."""
        seq = self._next[stream]
        self._next[stream] = seq + 1
        self._wait(_Pending(stream, seq, kind, n, body))
        if stream == "event":
            self.commit()
        return seq

    def commit(self) -> None:
        """Make everything pending durable, in one transaction; sheds when the outbox is full."""
        if not self._pending and not self._gaps:
            return
        pending, gaps = list(self._pending), list(self._gaps)
        added, freed = sum(len(item.body) for item in pending), [0]
        self._transaction(lambda: freed.append(self._write(pending, gaps, self._bytes + added - self.limit_bytes)))
        self._ceiling = {name: max(self._ceiling[name], self._next[name]) for name in STREAMS}
        self._bytes += added - freed[-1]
        self._pending, self._gaps, self._waiting_bytes = [], [], 0
        self._forget_old_gaps()

    def sendable(self, stream: str, after: int, limit: int) -> list[Item]:
        """Up to `limit` committed batches above `after`, in order, below the first open reservation.

        Nothing above a gap that is not written yet: after a kill nobody would know that it was one.
        """
        stop = min(self._open[stream], default=self._next[stream])
        waiting = [item.seq for item in self._pending if item.stream == stream]
        waiting += [seq for name, seq, *_ in self._gaps if name == stream]
        unwritten = min(waiting, default=stop)
        rows = self._read(
            "SELECT seq, kind, n, body FROM batch WHERE stream = ? AND seq > ? AND seq < ? ORDER BY seq LIMIT ?",
            (stream, after, min(stop, unwritten), limit),
        )
        prev = self._live_before(stream, after)
        items = []
        for seq, kind, n, body in rows:
            items.append(Item(stream, seq, prev, kind, n, body))
            prev = seq
        return items

    def blocking(self, stream: str) -> int | None:
        """The open reservation that holds a finished batch back, or None."""
        first = min(self._open[stream], default=None)
        if first is None:
            return None
        waits = any(item.stream == stream and item.seq > first for item in self._pending)
        query = "SELECT 1 FROM batch WHERE stream = ? AND seq > ? LIMIT 1"
        return first if waits or self._read(query, (stream, first)) else None

    def mark_sent(self, stream: str, seq: int) -> None:
        """Batches up to `seq` are on their way: they are not shed."""
        self._sent[stream] = max(self._sent[stream], seq)

    def ack(self, stream: str, seq: int) -> bool:
        """The server has committed up to `seq`; False for an old ack."""
        if seq <= self._acked[stream]:
            return False
        query = "SELECT coalesce(sum(length(body)), 0) FROM batch WHERE stream = ? AND seq <= ?"
        freed = self._read(query, (stream, seq))
        next_seq = max(self._ceiling[stream], seq + 1)
        self._transaction(lambda: self._write_ack(stream, seq, next_seq))
        self._acked[stream], self._ceiling[stream] = seq, next_seq
        self._next[stream] = max(self._next[stream], seq + 1)
        self._bytes -= int(freed[0][0])
        return True

    def counts(self) -> dict[str, int]:
        """Batches waiting, by stream."""
        rows: dict[str, int] = dict(self._read("SELECT stream, count(*) FROM batch GROUP BY stream", ()))
        for item in self._pending:
            rows[item.stream] = rows.get(item.stream, 0) + 1
        return {name: rows.get(name, 0) for name in STREAMS}

    def acked(self) -> dict[str, int]:
        """The last acknowledged sequence, by stream."""
        return dict(self._acked)

    @property
    def size_bytes(self) -> int:
        """Bytes of all committed bodies."""
        return self._bytes

    def close(self) -> None:
        """Commit and close; unused sequences of a block are given back."""
        for stream, open_seqs in self._open.items():
            for seq in list(open_seqs):
                self.abandon(stream, seq)
        self.commit()
        self._transaction(self._give_back)
        self._database.close()

    def _close(self, stream: str, seq: int) -> None:
        if seq not in self._open[stream]:
            raise OutboxError(f"{stream}/{seq} is not reserved")
        self._open[stream].discard(seq)

    def _wait(self, item: _Pending) -> None:
        """Until the next commit, which may be far away when the disk is full."""
        self._pending.append(item)
        self._waiting_bytes += len(item.body)
        for kind in SHED_ORDER if self._waiting_bytes > WAITING_BYTES else ():
            for old in [one for one in self._pending if one.kind == kind]:
                if self._waiting_bytes <= WAITING_BYTES:
                    return
                self._pending.remove(old)
                self._waiting_bytes -= len(old.body)
                self._gaps.append((old.stream, old.seq, "shed", old.kind, old.n))

    def _forget_old_gaps(self) -> None:
        """A device that runs for years has millions of them, and nobody asks for the old ones."""
        if self._gaps_kept <= GAPS_KEPT:
            return
        for stream in STREAMS:
            rows = self._read(
                "SELECT seq FROM gap WHERE stream = ? ORDER BY seq DESC LIMIT 1 OFFSET ?", (stream, GAPS_KEPT // 2)
            )
            if rows:
                self._transaction(partial(self._write_gaps_from, stream, int(rows[0][0]) + 1))
        self._gaps_kept = self._count_gaps()

    def _count_gaps(self) -> int:
        return int(self._read("SELECT count(*) FROM gap", ())[0][0])

    def _write_gaps_from(self, stream: str, seq: int) -> None:
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"gaps_from_{stream}", str(seq)))
        self._database.execute("DELETE FROM gap WHERE stream = ? AND seq < ?", (stream, seq))

    def _raise_ceiling(self, stream: str, ceiling: int) -> None:
        update = "UPDATE stream SET next_seq = ? WHERE name = ?"
        self._transaction(lambda: self._database.execute(update, (ceiling, stream)))
        self._ceiling[stream] = ceiling

    def _live_before(self, stream: str, after: int) -> int:
        rows = self._read("SELECT max(seq) FROM batch WHERE stream = ? AND seq <= ?", (stream, after))
        return max(self._acked[stream], rows[0][0] or 0)

    def _choose_shed(self, excess_bytes: int) -> tuple[list[tuple[str, int, str, int]], int]:
        chosen: list[tuple[str, int, str, int]] = []
        freed = 0
        for kind in SHED_ORDER:
            if freed >= excess_bytes:
                break
            query = "SELECT stream, seq, n, length(body) FROM batch WHERE kind = ? AND seq > ? ORDER BY seq"
            for stream, seq, n, size in self._read(query, (kind, self._sent["bulk"])):
                if freed >= excess_bytes:
                    break
                chosen.append((stream, seq, kind, n))
                freed += size
        return chosen, freed

    def _write(self, pending: list[_Pending], gaps: list[tuple[str, int, str, str, int]], excess_bytes: int) -> int:
        """Within a transaction: add, shed what is too much, declare the gaps; returns the bytes shed."""
        execute, many = self._database.execute, self._database.executemany
        many("INSERT INTO batch VALUES (?, ?, ?, ?, ?)", [(p.stream, p.seq, p.kind, p.n, p.body) for p in pending])
        shed, freed = self._choose_shed(excess_bytes)
        many("DELETE FROM batch WHERE stream = ? AND seq = ?", [(stream, seq) for stream, seq, _, _ in shed])
        dropped = [(stream, seq, "shed", kind, n) for stream, seq, kind, n in shed]
        many("INSERT OR IGNORE INTO gap VALUES (?, ?, ?, ?, ?)", [*gaps, *dropped])
        self._gaps_kept += len(gaps) + len(dropped)
        for stream, next_seq in self._next.items():
            if next_seq > self._ceiling[stream]:
                execute("UPDATE stream SET next_seq = ? WHERE name = ?", (next_seq, stream))
        return freed

    def _write_ack(self, stream: str, seq: int, next_seq: int) -> None:
        self._database.execute("DELETE FROM batch WHERE stream = ? AND seq <= ?", (stream, seq))
        self._database.execute("UPDATE stream SET acked = ?, next_seq = ? WHERE name = ?", (seq, next_seq, stream))

    def _give_back(self) -> None:
        for stream, next_seq in self._next.items():
            self._database.execute("UPDATE stream SET next_seq = ? WHERE name = ?", (next_seq, stream))

    def _recover(self) -> None:
        for stream in STREAMS:
            known = {row[0] for row in self._read("SELECT seq FROM batch WHERE stream = ?", (stream,))}
            known |= {row[0] for row in self._read("SELECT seq FROM gap WHERE stream = ?", (stream,))}
            first = max(self._acked[stream] + 1, self._number("first_seq"), self._number(f"gaps_from_{stream}"))
            lost = [seq for seq in range(first, self._next[stream]) if seq not in known]
            self._gaps += [(stream, seq, "abandoned", "", 0) for seq in lost]
        self._bytes, self._gaps_kept = 0, self._count_gaps()
        self.commit()

    def _number(self, key: str) -> int:
        rows = self._read("SELECT value FROM meta WHERE key = ?", (key,))
        return int(rows[0][0]) if rows else 1

    def _read(self, query: str, values: tuple[object, ...]) -> list[Any]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            raise OutboxError(f"{self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise schema.OutboxDamagedError(f"{self.path}: {error}") from error

    def _transaction(self, work: Callable[[], object]) -> None:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            work()
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._roll_back()
            raise OutboxError(f"{self.path}: {error}", schema.DISK_HINT) from error
        except sqlite3.DatabaseError as error:
            self._roll_back()
            raise schema.OutboxDamagedError(f"{self.path}: {error}") from error

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")
