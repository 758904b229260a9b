"""Artifact blobs as retained messages, cut once for all devices.

1. Chunk n of a blob is the retained message `o1/blob/<hex digest>/<n>`, at most `limits.CHUNK_BYTES`.
2. The cost of distributing does not grow with the number of devices: chunks are published once.
3. The broker's retained cache lives two minutes: while a rollout runs, the warmer reads all its chunks at once and
   again within that time (measured: warm reads are 5 times cheaper).
4. A chunk is deleted by publishing it empty.
"""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from outrider_fleet.broker.errors import LinkError
from outrider_fleet.broker.link import BrokerLink, Publication
from outrider_protocol import limits, topics

_log: Final = logging.getLogger(__name__)
WINDOW: Final = 32
PUBLISH_TIMEOUT_S: Final = 30.0
WARM_INTERVAL_S: Final = 90.0
WARM_TIMEOUT_S: Final = 20.0
LAST_CHUNKS_S: Final = 3.0


def chunk_count(size_bytes: int) -> int:
    """How many chunks a blob of this size has (an empty blob has one).

    >>> chunk_count(limits.CHUNK_BYTES), chunk_count(limits.CHUNK_BYTES + 1), chunk_count(0)
    (1, 2, 1)
    """
    return max(1, -(-size_bytes // limits.CHUNK_BYTES))


def publish_blob(link: BrokerLink, hex_digest: str, blob: Path) -> int:
    """Publish all chunks of a file, in windows; returns their number. Raises `LinkError`."""
    waiting: list[Publication] = []
    number = -1
    for number, chunk in enumerate(_chunks(blob)):
        waiting.append(link.publish(topics.blob(hex_digest, number), chunk, retain=True))
        if len(waiting) >= WINDOW:
            waiting.pop(0).wait(PUBLISH_TIMEOUT_S)
    for publication in waiting:
        publication.wait(PUBLISH_TIMEOUT_S)
    return number + 1


def drop_blob(link: BrokerLink, hex_digest: str, chunks: int) -> None:
    """Delete the retained chunks of a blob."""
    for publication in [link.publish(topics.blob(hex_digest, n), b"", retain=True) for n in range(chunks)]:
        publication.wait(PUBLISH_TIMEOUT_S)


def lost_blobs(link: BrokerLink, sizes: dict[str, int]) -> set[str]:
    """Which blobs (hex digest → bytes) have no last chunk at the broker: chunks are published in order."""
    last = {topics.blob(hex_digest, chunk_count(size) - 1): hex_digest for hex_digest, size in sizes.items()}
    found = link.read_topics(list(last), LAST_CHUNKS_S) if last else {}
    return {hex_digest for topic, hex_digest in last.items() if topic not in found}


def _chunks(blob: Path) -> Iterator[bytes]:
    with blob.open("rb") as file:
        yield file.read(limits.CHUNK_BYTES)
        while chunk := file.read(limits.CHUNK_BYTES):
            yield chunk


class Warmer:
    """Keeps the chunks of running rollouts in the broker's cache."""

    def __init__(self, link: BrokerLink, *, interval_s: float = WARM_INTERVAL_S) -> None:
        self._link, self._interval_s = link, interval_s
        self._blobs: dict[str, int] = {}
        self._cold: dict[str, int] = {}
        self._lock = threading.Lock()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, hex_digest: str, chunks: int) -> None:
        """Keep this blob warm; one that is new is read at once."""
        with self._lock:
            if hex_digest not in self._blobs:
                self._cold[hex_digest] = chunks
            self._blobs[hex_digest] = chunks
        self._wake.set()

    def remove(self, hex_digest: str) -> None:
        """Let this blob grow cold."""
        with self._lock:
            self._blobs.pop(hex_digest, None)
            self._cold.pop(hex_digest, None)

    def warm_once(self, *, new_only: bool = False) -> dict[str, int]:
        """Read every blob (or those never read) once; returns hex digest → chunks that the broker still has."""
        with self._lock:
            blobs = dict(self._cold if new_only else self._blobs)
            self._cold.clear()
        return {hex_digest: self._read(hex_digest, chunks) for hex_digest, chunks in blobs.items()}

    def start(self) -> None:
        """Warm in a thread of its own, every `interval_s`."""
        self._thread = threading.Thread(target=self._run, name="blob-warmer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop warming."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        next_s = time.monotonic() + self._interval_s
        while not self._stopping.is_set():
            self._wake.wait(max(0.0, next_s - time.monotonic()))
            self._wake.clear()
            if self._stopping.is_set():
                return
            due = time.monotonic() >= next_s
            self.warm_once(new_only=not due)
            next_s = time.monotonic() + self._interval_s if due else next_s

    def _read(self, hex_digest: str, chunks: int) -> int:
        try:
            found = len(self._link.read_retained(f"{topics.ROOT}/blob/{hex_digest}", chunks, WARM_TIMEOUT_S))
        except LinkError as error:
            _log.warning("blob %s could not be warmed: %s", hex_digest, error)
            return 0
        if found < chunks:
            _log.warning("blob %s: the broker gave %d of %d chunks", hex_digest, found, chunks)
        return found
