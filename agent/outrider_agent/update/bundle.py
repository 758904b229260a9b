"""The TUF repository that a source offers to the devices of one model family: which bytes stand for which file.

1. Timestamp, snapshot, targets and the two fleet files come in one document, `online.json`, so that they fit together.
2. A root above the newest that `online.json` names does not exist; one below it that the source has not got is a broken
   chain, and said so: no device can step over a root.
3. Sizes are checked before anything is parsed [TRU-1].
"""

from __future__ import annotations

from collections.abc import Iterator

from outrider_agent.update.errors import CannotRefreshError, RootMissingError
from outrider_agent.update.sources import Source
from outrider_protocol import documents, limits
from outrider_protocol.messages import TrustOnline

_ONLINE_FILES = ("timestamp", "snapshot", "targets")


class Bundle:
    """See `workflow.Repository`; nothing in it is trusted."""

    def __init__(self, source: Source, model: str) -> None:
        self._source, self._role = source, documents.role(model)
        self._online: TrustOnline | None = None

    def stream(self, name: str) -> Iterator[bytes] | None:
        """The bytes of one file of the repository, None where it has no such file."""
        data = self._data(name)
        return None if data is None else iter((data,))

    def fleet_file(self, name: str) -> bytes | None:
        """`fleet/director.json` or `fleet/floors.json`."""
        text = self._now().files.get(name)
        return None if text is None else text.encode()

    def _data(self, name: str) -> bytes | None:
        number = documents.root_number(name)
        if number is not None:
            return self._root(number, name)
        if name == self._role:
            return self._source.document(name, limits.ROLE_BYTES)
        stem = name.removesuffix(documents.SUFFIX)
        return getattr(self._now(), stem).encode() if stem in _ONLINE_FILES else None

    def _root(self, number: int, name: str) -> bytes | None:
        newest = self._now().root_version
        if number > newest:
            return None
        try:
            data = self._source.document(name, limits.ROOT_BYTES)
        except CannotRefreshError as error:
            raise RootMissingError(f"{name} (the fleet's newest root is {newest}): {error}") from error
        if data is None:
            raise RootMissingError(f"{name} is missing: the fleet's newest root is {newest}")
        return data

    def _now(self) -> TrustOnline:
        if self._online is None:
            data = self._source.document(documents.ONLINE, limits.TRUST_ONLINE_BYTES)
            if data is None:
                raise CannotRefreshError(f"there is no {documents.ONLINE}")
            self._online = TrustOnline.decode(data)
        return self._online
