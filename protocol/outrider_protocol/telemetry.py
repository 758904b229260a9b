r"""Telemetry batches: an envelope that the supervisor writes around a body that it never opens.

    envelope: magic "O1B\x01" | u32 length | JSON {v, outbox_id, stream, seq, prev} | body
    body:     u8 codec (0 plain, 1 zlib) | [u32 length | JSON {kind, meta, columns} | columns]

1. The key of a batch is (device, outbox_id, stream, seq); the device stands in the topic.
2. `prev` is the previous live sequence of the stream: what lies between was shed or never used.
3. Inflating stops at `limits.BATCH_INFLATED_BYTES`; columns must fill the body exactly.
4. On the stream `event` the body's kind is `event` and its meta is a `messages.Event`.

>>> body = encode_body("predictions", {"n": 2}, {"klass": ("i2", bytes(4))})
>>> batch = decode(wrap("00112233aabbccdd", "bulk", 7, 5, body))
>>> batch.seq, batch.prev, batch.kind, batch.columns["klass"].count
(7, 5, 'predictions', 2)
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any, Final

from outrider_protocol import canonical, ids, limits
from outrider_protocol.errors import MalformedError, TooLargeError
from outrider_protocol.fields import VERSION, Fields
from outrider_protocol.messages import Event, stream_name
from outrider_protocol.tensors import ITEM_BYTES, split_header

MAGIC: Final = b"O1B\x01"
KINDS: Final = ("predictions", "windows", "samples", "event")
_PLAIN, _ZLIB = 0, 1
_COMPRESS_FROM_BYTES: Final = 512


@dataclass(frozen=True)
class Column:
    """Raw little-endian values of one dtype."""

    dtype: str
    data: bytes

    @property
    def count(self) -> int:
        """How many values."""
        return len(self.data) // ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Batch:
    """One decoded batch."""

    outbox_id: str
    stream: str
    seq: int
    prev: int
    kind: str
    meta: dict[str, Any]
    columns: dict[str, Column] = field(default_factory=dict)


def encode_body(kind: str, meta: dict[str, Any], columns: dict[str, tuple[str, bytes]]) -> bytes:
    """Encode a body; `columns` is name → (dtype, little-endian bytes)."""
    described = [[name, dtype, len(data)] for name, (dtype, data) in sorted(columns.items())]
    header = canonical.encode({"kind": kind, "meta": meta, "columns": described})
    plain = struct.pack("<I", len(header)) + header + b"".join(data for _, (_, data) in sorted(columns.items()))
    if len(plain) >= _COMPRESS_FROM_BYTES:
        packed = zlib.compress(plain, 3)
        if len(packed) < len(plain):
            return bytes([_ZLIB]) + packed
    return bytes([_PLAIN]) + plain


def event_body(event: Event) -> bytes:
    """The body of an event's batch."""
    return encode_body("event", canonical.decode(event.encode(), limits.CONTROL_BYTES), {})


def wrap(outbox_id: str, stream: str, seq: int, prev: int, body: bytes) -> bytes:
    """Put the envelope around a body; raises `TooLargeError` when it would not fit a message."""
    header = canonical.encode({"v": VERSION, "outbox_id": outbox_id, "stream": stream, "seq": seq, "prev": prev})
    data = MAGIC + struct.pack("<I", len(header)) + header + body
    if len(data) > limits.BATCH_BYTES:
        raise TooLargeError("batch", len(data), limits.BATCH_BYTES)
    return data


def decode(data: bytes) -> Batch:
    """Parse one batch as it came from the wire; raises a `ProtocolError`."""
    if len(data) > limits.BATCH_BYTES:
        raise TooLargeError("batch", len(data), limits.BATCH_BYTES)
    envelope, body = split_header(data, MAGIC, "batch")
    envelope.versioned(frozenset({"v", "outbox_id", "stream", "seq", "prev"}))
    kind, meta, columns = decode_body(body)
    seq = envelope.integer("seq", low=1)
    return Batch(
        ids.outbox_id(envelope.text("outbox_id")),
        stream_name(envelope.text("stream")),
        seq,
        envelope.integer("prev", high=seq - 1),
        kind,
        meta,
        columns,
    )


def decode_body(body: bytes) -> tuple[str, dict[str, Any], dict[str, Column]]:
    """Return (kind, meta, columns) of a body."""
    header, rest = split_header(b"BODY" + _inflate(body), b"BODY", "batch body")
    kind = header.text("kind")
    if kind not in KINDS:
        raise MalformedError(f"batch: unknown kind {kind[:40]!r}")
    return kind, header.raw("meta"), _columns(header, rest)


def _inflate(body: bytes) -> bytes:
    if body[:1] == bytes([_PLAIN]):
        return body[1:]
    if body[:1] != bytes([_ZLIB]):
        raise MalformedError("batch: unknown codec")
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(body[1:], limits.BATCH_INFLATED_BYTES)
    except zlib.error as error:
        raise MalformedError(f"batch: {error}") from error
    if not inflater.eof or inflater.unused_data:
        raise MalformedError("batch: compressed data are truncated, too large or followed by others")
    return plain


def _columns(header: Fields, rest: bytes) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    offset = 0
    for entry in header.list("columns"):
        name, dtype, length = _column_entry(entry)
        columns[name] = Column(dtype, rest[offset : offset + length])
        offset += length
    if offset != len(rest):
        raise MalformedError(f"batch: columns fill {offset} of {len(rest)} bytes")
    return columns


def _column_entry(entry: Any) -> tuple[str, str, int]:
    if not (isinstance(entry, list) and len(entry) == 3):
        raise MalformedError("batch: a column is [name, dtype, bytes]")
    fields = Fields(dict(zip(("name", "dtype", "bytes"), entry, strict=True)), "column")
    name, dtype, length = fields.text("name"), fields.text("dtype"), fields.integer("bytes")
    if dtype not in ITEM_BYTES or length % ITEM_BYTES[dtype]:
        raise MalformedError(f"batch: column {name[:40]!r} of {length} bytes is no {dtype[:8]!r}")
    return name, dtype, length


def check_event(batch: Batch) -> Event:
    """The event in a batch of the stream `event`."""
    if batch.stream != "event" or batch.kind != "event":
        raise MalformedError(f"a batch of kind {batch.kind} on stream {batch.stream} carries no event")
    return Event.decode(canonical.encode(batch.meta))
