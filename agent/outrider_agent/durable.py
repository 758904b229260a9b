"""The one module for files that must survive a power cut.

1. A file is written beside its place, fsynced, renamed over it, and its directory is fsynced: a reader sees the old
   content or the new, never a part.
2. A rename is durable only when both directories are fsynced.
3. A file that grows by pieces (`grow`) has no name that anybody believes until it was synced and renamed.
4. What a killed process left may not be sure yet: `settle` makes it so before anybody acts on it.
5. Every operation is reported to `record` before it is done, so that a test can enumerate what a power cut may leave.
6. Files are for their owner alone (0600, directories 0700) unless the caller says otherwise.

    disk = Durable()
    disk.write(Path("var/update.json"), b"{}")
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from outrider_agent.errors import DurableError

TEMPORARY: Final = ".tmp"
GONE: Final = ".gone"


@dataclass(frozen=True)
class Operation:
    """One step: create, write and truncate (at `offset`), fsync, rename, fsync_dir, mkdir, unlink or rmtree."""

    kind: str
    path: Path
    target: Path | None = None
    data: bytes = b""
    offset: int = 0


Record = Callable[[Operation], None]


def _ignore(_: Operation) -> None:
    return


class Growing:
    """A file that grows at its end; what was appended is sure once `sync` returned."""

    def __init__(self, path: Path, file: BinaryIO, end: int, record: Record) -> None:
        self._path, self._file, self._end, self._record = path, file, end, record

    def append(self, data: bytes) -> None:
        """Add to the end; raises `OSError`."""
        self._record(Operation("write", self._path, data=data, offset=self._end))
        self._file.write(data)
        self._file.flush()
        self._end += len(data)

    def sync(self) -> None:
        """Make all of it sure."""
        self._record(Operation("fsync", self._path))
        os.fsync(self._file.fileno())


class Durable:
    """Writes that survive; `record` sees each operation first."""

    def __init__(self, record: Record = _ignore) -> None:
        self._record = record

    def write(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        """Replace `path` atomically and durably; raises `DurableError`, the old content then stands."""
        temporary = path.with_name(path.name + TEMPORARY)
        try:
            self._write_synced(temporary, data, mode)
            self._replace(temporary, path)
            self._sync_directory(path.parent)
        except OSError as error:
            raise DurableError(f"{path}: {error.strerror or error}") from error

    @contextmanager
    def grow(self, path: Path, keep_bytes: int = 0) -> Iterator[Growing]:
        """Append to a file whose first `keep_bytes` are right; what follows them is cut off. Raises `DurableError`."""
        try:
            if not path.exists():
                self._record(Operation("create", path))
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, 0o600)
                self._record(Operation("truncate", path, offset=keep_bytes))
                file.truncate(keep_bytes)
                file.seek(keep_bytes)
                yield Growing(path, file, keep_bytes, self._record)
        except OSError as error:
            raise DurableError(f"{path}: {error.strerror or error}") from error

    def rename(self, source: Path, target: Path) -> None:
        """Move a file or directory durably; what it holds must have been synced (`sync_tree`)."""
        try:
            self._replace(source, target)
            self._sync_directory(target.parent)
            if source.parent != target.parent:
                self._sync_directory(source.parent)
        except OSError as error:
            raise DurableError(f"{source} → {target}: {error.strerror or error}") from error

    def make_directory(self, path: Path, mode: int = 0o700) -> None:
        """Create a directory and its missing parents, durably."""
        if path.is_dir():
            return
        self.make_directory(path.parent, mode)
        self._record(Operation("mkdir", path))
        try:
            path.mkdir(mode=mode, exist_ok=True)
            self._sync_directory(path.parent)
        except OSError as error:
            raise DurableError(f"{path}: {error.strerror or error}") from error

    def sync_tree(self, directory: Path) -> None:
        """Fsync every file of a flat directory, then the directory."""
        try:
            for path in sorted(directory.iterdir()):
                self._sync_file(path)
            self._sync_directory(directory)
        except OSError as error:
            raise DurableError(f"{directory}: {error.strerror or error}") from error

    def settle(self, path: Path) -> None:
        """Make sure of a file or directory that is there, and of its name; a missing one is passed over."""
        try:
            if path.is_dir():
                self._sync_directory(path)
            elif path.exists():
                self._sync_file(path)
            if path.parent.is_dir():
                self._sync_directory(path.parent)
        except OSError as error:
            raise DurableError(f"{path}: {error.strerror or error}") from error

    def remove(self, path: Path) -> None:
        """Delete a file where it exists, durably."""
        self._record(Operation("unlink", path))
        try:
            path.unlink(missing_ok=True)
            self._sync_directory(path.parent)
        except OSError as error:
            raise DurableError(f"{path}: {error.strerror or error}") from error

    def remove_tree(self, path: Path) -> None:
        """Delete a directory, or a link to one, where it exists; it is renamed first: no half of it keeps the name."""
        doomed = path if path.name.endswith(GONE) else path.with_name(path.name + GONE)
        self._delete(doomed)
        if path.exists() or path.is_symlink():
            self.rename(path, doomed)
            self._delete(doomed)

    def _delete(self, doomed: Path) -> None:
        if doomed.is_symlink():  # somebody planted it: what it names is not ours
            self._record(Operation("unlink", doomed))
            doomed.unlink()
        elif doomed.exists():
            self._record(Operation("rmtree", doomed))
            shutil.rmtree(doomed, ignore_errors=True)

    def _write_synced(self, path: Path, data: bytes, mode: int) -> None:
        self._record(Operation("create", path))
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as file:
            self._record(Operation("write", path, data=data))
            file.write(data)
            file.flush()
            self._sync_written(path, file)

    def _sync_written(self, path: Path, file: BinaryIO) -> None:
        self._record(Operation("fsync", path))
        os.fsync(file.fileno())

    def _replace(self, source: Path, target: Path) -> None:
        self._record(Operation("rename", source, target))
        source.replace(target)

    def _sync_file(self, path: Path) -> None:
        self._record(Operation("fsync", path))
        _fsync(path, os.O_RDONLY | os.O_NOFOLLOW)

    def _sync_directory(self, path: Path) -> None:
        self._record(Operation("fsync_dir", path))
        _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
