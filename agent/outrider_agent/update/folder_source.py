"""Bytes from a folder, as `outrider-fleet export --air-gap` writes it: a USB stick, a copied directory.

1. Only plain files are read, never through a link; a device, a pipe or a link is a named error, not a wait.
2. A file is read up to its limit and no further, however long it says that it is.
3. A folder that vanishes on the way (a stick that is pulled) ends nothing: it can be tried again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from outrider_agent.update.errors import CannotRefreshError, NotInFolderError, StalledError
from outrider_protocol import documents, limits
from outrider_protocol.errors import TooLargeError
from outrider_protocol.limits import CHUNK_BYTES


class FolderSource:
    """See `sources.Source`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def document(self, name: str, limit_bytes: int) -> bytes | None:
        """See `Source`."""
        try:
            return self._read(documents.trust_path(name), limit_bytes)
        except OSError as error:
            raise CannotRefreshError(f"{self._directory / documents.trust_path(name)}: {error.strerror}") from error

    def chunks(self, hex_digest: str, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """See `Source`."""
        path = self._directory / documents.blob_path(hex_digest)
        try:
            with _open_plain(path) as file:
                for number in numbers:
                    file.seek(number * CHUNK_BYTES)
                    yield number, file.read(CHUNK_BYTES)
        except FileNotFoundError as error:
            raise StalledError(f"{path} is not in the folder") from error
        except OSError as error:
            raise StalledError(f"{path}: {error.strerror}") from error

    def order(self, device: str) -> bytes:
        """The envelope for one device; raises `NotInFolderError` or `TooLargeError`."""
        name = documents.order_path(device)
        try:
            found = self._read(name, limits.ORDER_BYTES)
        except OSError as error:
            raise NotInFolderError(f"{self._directory / name}: {error.strerror}") from error
        if found is None:
            raise NotInFolderError(f"{self._directory} holds no order for {device}{self._others()}")
        return found

    def _others(self) -> str:
        try:
            data = self._read(documents.FOLDER_FILE, limits.INDEX_BYTES)
        except OSError:
            data = None
        if data is None:
            return f": it has no {documents.FOLDER_FILE}"
        about = documents.AirGap.decode(data)
        return f": it is of fleet {about.fleet}, for {', '.join(about.devices[:10])}"

    def _read(self, name: str, limit_bytes: int) -> bytes | None:
        try:
            with _open_plain(self._directory / name) as file:
                data = file.read(limit_bytes + 1)
        except FileNotFoundError:
            return None
        if len(data) > limit_bytes:
            raise TooLargeError(name, len(data), limit_bytes)
        return data


def _open_plain(path: Path) -> BinaryIO:
    """A plain file, opened without following a link or waiting for a pipe; raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "not a plain file", str(path))
    return os.fdopen(fd, "rb")
