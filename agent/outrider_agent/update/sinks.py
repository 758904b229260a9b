"""How a layer lies on the disk, plain or sealed; a download goes on from either after a crash.

1. A plain part holds verified chunks in order and nothing else.
2. A sealed part holds a header and sealed chunks: no byte of the layer reaches the disk in plain.
3. What of a part is right is found by the digests of the manifest, chunk by chunk, in both.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

from outrider_agent import sealed
from outrider_agent.sealed import HEADER_BYTES, TAG_BYTES, Header, Seal, SealedFileError
from outrider_protocol.limits import CHUNK_BYTES
from outrider_protocol.manifest import Descriptor


class Sink(Protocol):
    """Turns the chunks of one layer into the bytes of its file."""

    @property
    def name(self) -> str:
        """The file's name."""

    def right_chunks(self, part: Path) -> tuple[int, int]:
        """(chunks of the part that are right, bytes of it that stay)."""

    def begin(self) -> bytes:
        """What stands before the first chunk."""

    def encode(self, number: int, data: bytes) -> bytes:
        """The file's bytes of a chunk."""


class PlainSink:
    """As it is."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self.name = descriptor.title

    def right_chunks(self, part: Path) -> tuple[int, int]:
        """See `Sink`."""
        good = 0
        with part.open("rb") as file:
            for digest in self._descriptor.chunks:
                if hashlib.sha256(file.read(CHUNK_BYTES)).hexdigest() != digest:
                    break
                good += 1
        return good, min(good * CHUNK_BYTES, self._descriptor.size)

    def begin(self) -> bytes:
        """See `Sink`."""
        return b""

    def encode(self, number: int, data: bytes) -> bytes:
        """See `Sink`."""
        del number
        return data


class SealedSink:
    """Sealed with the device's key."""

    def __init__(self, descriptor: Descriptor, key: bytes) -> None:
        self._descriptor, self._key = descriptor, key
        self._seal = Seal.new(key, descriptor.size)
        self.name = descriptor.title + sealed.SUFFIX

    def right_chunks(self, part: Path) -> tuple[int, int]:
        """See `Sink`; a part whose header is not this file's is begun anew, with another salt."""
        good, end = 0, HEADER_BYTES
        with part.open("rb") as file:
            try:
                header = Header.decode(file.read(HEADER_BYTES))
            except SealedFileError:
                return 0, 0
            if (header.length, header.chunk_bytes) != (self._descriptor.size, CHUNK_BYTES):
                return 0, 0
            seal = Seal(self._key, header)
            for number, digest in enumerate(self._descriptor.chunks):
                data = file.read(header.size_of(number) + TAG_BYTES)
                if not _is_right(seal, number, data, digest):
                    break
                good, end = good + 1, end + len(data)
        if not good:
            return 0, 0
        self._seal = seal
        return good, end

    def begin(self) -> bytes:
        """See `Sink`."""
        return self._seal.header.encode()

    def encode(self, number: int, data: bytes) -> bytes:
        """See `Sink`."""
        return self._seal.seal(number, data)


def _is_right(seal: Seal, number: int, data: bytes, digest: str) -> bool:
    try:
        return hashlib.sha256(seal.open(number, data)).hexdigest() == digest
    except SealedFileError:
        return False


def sink_for(descriptor: Descriptor, key: bytes | None) -> Sink:
    """Plain without a key."""
    return PlainSink(descriptor) if key is None else SealedSink(descriptor, key)
