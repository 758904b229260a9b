"""The streams of telemetry: what is new, how far a stream is complete, and what is acknowledged.

1. The key of a batch is (device, outbox_id, stream, seq): one that is there already is only acknowledged again.
2. A stream is complete up to `committed_seq`: it moves past a batch only when everything before it is there, or was
   declared as shed by the batch's `prev`.
3. The ack says `committed_seq`, after the commit; it carries `cleared` while the device does not know it yet.
"""

from dataclasses import dataclass

from sqlalchemy import select

from outrider_fleet.app.fleet import Change
from outrider_fleet.store import devices, drift, sql
from outrider_fleet.store.tables import batches, gaps, streams
from outrider_protocol import topics
from outrider_protocol.messages import Ack
from outrider_protocol.telemetry import Batch


@dataclass(frozen=True, order=True)
class Stream:
    """One stream of one outbox of one device."""

    device: str
    outbox_id: str
    name: str


def is_new(change: Change, device: str, batch: Batch, kind: str, n: int) -> bool:
    """Record the key of a batch; False where it is known."""
    row = {
        "device": device,
        "outbox_id": batch.outbox_id,
        "stream": batch.stream,
        "seq": batch.seq,
        "prev": batch.prev,
        "kind": kind,
        "n": n,
        "received_ms": change.now_ms,
    }
    return sql.insert_new(change.connection, batches, row)


def complete(change: Change, stream: Stream) -> int:
    """Move `committed_seq` as far as the stream is complete; returns it."""
    committed = start = _committed(change, stream)
    for seq, prev in _beyond(change, stream, committed):
        if prev > committed:
            break
        _declare_gap(change, stream, max(prev, committed), seq)
        committed = seq
    if committed != start or committed == 0:
        _put(change, stream, committed)
    return committed


def take_up(change: Change, stream: Stream, acked_seq: int) -> None:
    """A device says what was acknowledged to it: a server restored from a backup goes on from there."""
    committed = _committed(change, stream)
    if acked_seq > committed:
        _declare_gap(change, stream, committed, acked_seq + 1)
        _put(change, stream, acked_seq)


def acknowledge(change: Change, stream: Stream) -> None:
    """Send the ack of a stream once the change is committed."""
    cleared = drift.cleared_unheard(change.connection, stream.device)
    ack = Ack(stream.outbox_id, stream.name, _committed(change, stream), cleared)
    change.publish(topics.ack(stream.device), ack.encode(), retain=False)


def tell_cleared(change: Change, device: str) -> None:
    """Send an ack now, because the device's baseline was cleared."""
    row = devices.get(change.connection, device)
    if row is not None and row["outbox_id"] is not None:
        acknowledge(change, Stream(device, row["outbox_id"], "bulk"))


def _committed(change: Change, stream: Stream) -> int:
    row = sql.find(change.connection, streams, device=stream.device, outbox_id=stream.outbox_id, stream=stream.name)
    return 0 if row is None else int(row["committed_seq"])


def _put(change: Change, stream: Stream, committed: int) -> None:
    row = {
        "device": stream.device,
        "outbox_id": stream.outbox_id,
        "stream": stream.name,
        "committed_seq": committed,
        "updated_ms": change.now_ms,
    }
    sql.put(change.connection, streams, row)


def _beyond(change: Change, stream: Stream, committed: int) -> list[tuple[int, int]]:
    key = (
        (batches.c.device == stream.device)
        & (batches.c.outbox_id == stream.outbox_id)
        & (batches.c.stream == stream.name)
        & (batches.c.seq > committed)
    )
    found = sql.rows(change.connection, select(batches.c.seq, batches.c.prev).where(key).order_by(batches.c.seq))
    return [(row["seq"], row["prev"]) for row in found]


def _declare_gap(change: Change, stream: Stream, after: int, before: int) -> None:
    if before - after <= 1:
        return
    row = {
        "device": stream.device,
        "outbox_id": stream.outbox_id,
        "stream": stream.name,
        "before_seq": before,
        "after_seq": after,
        "declared_ms": change.now_ms,
    }
    sql.insert_new(change.connection, gaps, row)
