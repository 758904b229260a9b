"""Where bytes come from: one small interface, three givers, and nothing that any of them gives is believed.

1. A trust document is asked for by its name (`outrider_protocol.documents`), a blob by its digest and chunk numbers:
   the bytes are the same whoever gives them, and so are the checks of whoever asked.
2. `document` answers None where the giver says that there is no such document, and raises `CannotRefreshError` where it
   cannot be asked. What is longer than its limit raises `TooLargeError` before it is kept.
3. `chunks` yields in any order what arrives; chunks that do not come raise `StalledError`.

    broker_source.BrokerSource   retained topics, through the supervisor's connection
    http_source.HttpSource       GET below /api/v1 of the fleet server
    folder_source.FolderSource   a directory: a USB stick
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from outrider_agent.update.errors import CannotRefreshError, StalledError


class Source(Protocol):
    """A giver of bytes."""

    def document(self, name: str, limit_bytes: int) -> bytes | None:
        """One trust document."""

    def chunks(self, hex_digest: str, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """(number, bytes) of chunks of `limits.CHUNK_BYTES` of one blob."""


class EitherSource:
    """Asks the first source, and the second for what the first cannot give; who failed once is not waited for again."""

    def __init__(self, first: Source, second: Source) -> None:
        self._first, self._second = first, second
        self._no_documents: CannotRefreshError | None = None
        self._no_chunks: StalledError | None = None

    def document(self, name: str, limit_bytes: int) -> bytes | None:
        """See `Source`; where neither answers, the first one's error is raised."""
        if self._no_documents is None:
            try:
                return self._first.document(name, limit_bytes)
            except CannotRefreshError as error:
                self._no_documents = error
        try:
            return self._second.document(name, limit_bytes)
        except CannotRefreshError:
            raise self._no_documents from None

    def chunks(self, hex_digest: str, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """See `Source`; where neither answers, the first one's error is raised."""
        missing = dict.fromkeys(numbers)
        if self._no_chunks is None:
            try:
                for number, data in self._first.chunks(hex_digest, numbers):
                    missing.pop(number, None)
                    yield number, data
            except StalledError as error:
                self._no_chunks = error
            else:
                return
        try:
            yield from self._second.chunks(hex_digest, list(missing))
        except StalledError:
            raise self._no_chunks from None
