"""Files that hold keys: owner-only from their first byte, replaced whole.

1. The name appears only when the content is complete and on disk.
2. A private file is 0600 before anything is written to it.
3. Directories of the fleet's own are owner-only; one that a person named (a stick, say) keeps its mode.
"""

import os
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by an owner-only file with this content, durably."""
    replace(path, data, mode=0o600)


def write_public(path: Path, data: bytes) -> None:
    """Replace `path` by a world-readable file with this content, durably."""
    replace(path, data, mode=0o644)


def replace(path: Path, data: bytes, *, mode: int) -> None:
    """Write beside, fsync, rename, fsync the directory."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    beside.unlink(missing_ok=True)
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make renames within `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def given_directory(directory: Path) -> Path:
    """Make what is missing of a place that a person named, owner-only; what exists is theirs and stays as it is."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


def private_directory(directory: Path) -> Path:
    """Make a directory of the fleet's own (and its parents), owner-only whatever it was; returns it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)
    return directory
