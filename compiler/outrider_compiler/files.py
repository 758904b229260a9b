"""Files that a command reads and writes: whole or not at all, and the wrong place is said before the work is done."""

from __future__ import annotations

from pathlib import Path

from outrider_compiler.errors import UsageError


def read(path: Path) -> bytes:
    """A file's bytes; raises `UsageError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def read_text(path: Path) -> str:
    """A text file; raises `UsageError`."""
    try:
        return read(path).decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text") from error


def unusable(error: OSError) -> UsageError:
    """A place that the system refuses (whose it is, a full disk, no such folder), as an error with a hint."""
    hint = "Does its folder exist, may this user read or write there, and is there room?"
    return UsageError(f"{error.filename}: {error.strerror}", hint)


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside the place, then rename; raises `UsageError`."""
    check_places(path)
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UsageError(f"{path}: {error.strerror}") from error


def check_places(*paths: Path | None) -> None:
    """Raise `UsageError` where a file cannot be written to the end of a long build."""
    for path in paths:
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UsageError(f"{path} cannot be written: its folder does not exist, or it is one itself")
