"""Downloads blobs by chunks, each checked as it arrives, and resumes where it was cut off.

1. A chunk that does not have its listed digest is asked for again, `WRONG_CHUNKS` times in all, then refused by name.
2. `<title>.part` holds verified chunks in order and nothing else; after a crash its chunks are checked again and the
   rest is fetched.
3. A finished file is synced and renamed to its title; whoever finds the title still checks the whole digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from outrider_agent.durable import Durable
from outrider_agent.update.courier import WINDOW
from outrider_agent.update.sinks import sink_for
from outrider_agent.update.sources import Source
from outrider_protocol import ids
from outrider_protocol.errors import DigestMismatchError
from outrider_protocol.limits import CHUNK_BYTES
from outrider_protocol.manifest import Descriptor

PART: Final = ".part"
WRONG_CHUNKS: Final = 3


def small_blob(source: Source, digest: str, size_bytes: int) -> bytes:
    """A blob held in memory (manifest, config); raises `DigestMismatchError` or `StalledError`."""
    numbers = range(max(1, -(-size_bytes // CHUNK_BYTES)))
    found = dict(source.chunks(ids.hex_of(digest), numbers))
    data = b"".join(found.get(number, b"") for number in numbers)
    if len(data) != size_bytes or ids.digest_of(data) != digest:  # [AGT-UPD-7]
        raise DigestMismatchError(f"blob {digest}: the bytes that came are not it")
    return data


def layer(source: Source, descriptor: Descriptor, directory: Path, disk: Durable, key: bytes | None = None) -> None:
    """Bring one layer into `directory` under its title, sealed where there is a key.

    Raises `DigestMismatchError` or `StalledError`.
    """
    sink = sink_for(descriptor, key)
    target = directory / sink.name
    if target.exists():
        return
    part = target.with_name(target.name + PART)
    first, kept = sink.right_chunks(part) if part.exists() else (0, 0)
    with disk.grow(part, kept) as file:
        if not kept and (head := sink.begin()):
            file.append(head)
        for number, data in enumerate(_in_order(source, descriptor, first), first):
            file.append(sink.encode(number, data))
        file.sync()
    disk.rename(part, target)


def _in_order(source: Source, descriptor: Descriptor, first: int) -> Iterator[bytes]:
    """The chunks from `first` on, in order; at most a window of them waits in memory."""
    digests = descriptor.chunks
    for start in range(first, len(digests), WINDOW):
        wanted = range(start, min(start + WINDOW, len(digests)))
        held = _window(source, descriptor, wanted)
        for number in wanted:
            yield held.pop(number)


def _window(source: Source, descriptor: Descriptor, wanted: range) -> dict[int, bytes]:
    hex_digest, held = ids.hex_of(descriptor.digest), dict[int, bytes]()
    for _ in range(WRONG_CHUNKS):
        missing = [number for number in wanted if number not in held]
        for number, data in source.chunks(hex_digest, missing) if missing else ():
            if hashlib.sha256(data).hexdigest() == descriptor.chunks[number]:
                held[number] = data
    wrong = [number for number in wanted if number not in held]
    if wrong:
        raise DigestMismatchError(f"{descriptor.title}: chunk {wrong[0]} of {hex_digest} is not what was signed")
    return held
