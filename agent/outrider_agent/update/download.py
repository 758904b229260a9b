"""Downloads blobs by chunks, each checked as it arrives, and resumes where it was cut off.

1. A chunk that does not have its listed digest is asked for again, `WRONG_CHUNKS` times in all, then refused by name.
2. `<title>.part` holds verified chunks in order and nothing else; after a crash its chunks are checked again and the
   rest is fetched.
3. A finished file is synced and renamed to its title; whoever finds the title still checks the whole digest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from outrider_agent.durable import Durable
from outrider_agent.update.courier import WINDOW, Courier
from outrider_protocol import ids, topics
from outrider_protocol.errors import DigestMismatchError
from outrider_protocol.limits import CHUNK_BYTES
from outrider_protocol.manifest import Descriptor

PART: Final = ".part"
WRONG_CHUNKS: Final = 3


def small_blob(courier: Courier, digest: str, size_bytes: int) -> bytes:
    """A blob held in memory (manifest, config); raises `DigestMismatchError` or `StalledError`."""
    count = max(1, -(-size_bytes // CHUNK_BYTES))
    names = [topics.blob(ids.hex_of(digest), number) for number in range(count)]
    found = dict(courier.fetch(names))
    data = b"".join(found[name] for name in names)
    if len(data) != size_bytes or ids.digest_of(data) != digest:  # [AGT-UPD-7]
        raise DigestMismatchError(f"blob {digest}: the bytes that came are not it")
    return data


def layer(courier: Courier, descriptor: Descriptor, directory: Path, disk: Durable) -> None:
    """Bring one layer into `directory` under its title; raises `DigestMismatchError` or `StalledError`."""
    target = directory / descriptor.title
    if target.exists():
        return
    part = target.with_name(target.name + PART)
    first = _resume(part, descriptor)
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        for data in _in_order(courier, descriptor, first):
            file.write(data)
            file.flush()
        os.fsync(file.fileno())
    disk.rename(part, target)


def _resume(part: Path, descriptor: Descriptor) -> int:
    """How many chunks of the part are right; it is cut after them."""
    if not part.exists():
        return 0
    good = 0
    with part.open("r+b") as file:
        for digest in descriptor.chunks:
            data = file.read(CHUNK_BYTES)
            if hashlib.sha256(data).hexdigest() != digest:
                break
            good += 1
        file.truncate(min(good * CHUNK_BYTES, descriptor.size))
    return good


def _in_order(courier: Courier, descriptor: Descriptor, first: int) -> Iterator[bytes]:
    """The chunks from `first` on, in order; at most a window of them waits in memory."""
    digests = descriptor.chunks
    for start in range(first, len(digests), WINDOW):
        wanted = range(start, min(start + WINDOW, len(digests)))
        held = _window(courier, descriptor, wanted)
        for number in wanted:
            yield held.pop(number)


def _window(courier: Courier, descriptor: Descriptor, wanted: range) -> dict[int, bytes]:
    hex_digest, held = ids.hex_of(descriptor.digest), dict[int, bytes]()
    for _ in range(WRONG_CHUNKS):
        missing = {topics.blob(hex_digest, number): number for number in wanted if number not in held}
        for topic, data in courier.fetch(list(missing)) if missing else ():
            if hashlib.sha256(data).hexdigest() == descriptor.chunks[missing[topic]]:
                held[missing[topic]] = data
    wrong = [number for number in wanted if number not in held]
    if wrong:
        raise DigestMismatchError(f"{descriptor.title}: chunk {wrong[0]} of {hex_digest} is not what was signed")
    return held
