"""Turns verified bytes into a committed artifact directory.

1. Every file is a plain file with one name, for its owner alone, with the digest and size of its descriptor; its
   directory is one, not a link to one. A pipe or a link is a named error, not a wait.
2. The load test runs in a child process: a model that crashes the engine crashes nothing else.
3. Only then is the directory synced and renamed to `artifacts/<digest>`: what stands there was verified whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from outrider_agent.durable import TEMPORARY, Durable
from outrider_agent.sealed import SUFFIX, SealedFileError, opened
from outrider_agent.update.download import PART
from outrider_agent.update.errors import LoadTestError, NoSpaceError, UnsafeFileError
from outrider_agent.update.sinks import sink_for
from outrider_protocol import ids, limits
from outrider_protocol.errors import DigestMismatchError, MalformedError
from outrider_protocol.manifest import Descriptor, Manifest

MANIFEST_FILE: Final = "manifest.json"
CONFIG_FILE: Final = "config.json"
PROBE_S: Final = 120.0
READ_BYTES: Final = 1024 * 1024
SPARE_BYTES: Final = 16 * 1024 * 1024


def check_space(directory: Path, manifest: Manifest) -> None:
    """Raise `NoSpaceError` when the layers do not fit."""
    wanted = sum(layer.size for layer in manifest.device_layers()) + SPARE_BYTES
    free = shutil.disk_usage(directory).free
    if wanted > free:
        raise NoSpaceError(f"{wanted} bytes are needed under {directory}, {free} are free")


def check_directory(directory: Path) -> None:
    """Raise `UnsafeFileError` where it is a link, or somebody else's."""
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise UnsafeFileError(f"{directory}: not a directory of this user")


def check_titles(manifest: Manifest) -> None:
    """Raise `MalformedError` where a layer takes a name that this agent gives to unfinished or sealed files."""
    for layer in manifest.device_layers():
        if layer.title.endswith((PART, SUFFIX, TEMPORARY)):
            raise MalformedError(f"layer title {layer.title!r} ends as a file of the agent's own")


def verify(directory: Path, manifest: Manifest, disk: Durable, key: bytes | None = None) -> None:
    """Hold every file against its descriptor; a wrong one is removed, so that it is fetched again."""
    for layer in manifest.device_layers():
        path = directory / sink_for(layer, key).name
        try:
            verify_file(path, layer, key)
        except (DigestMismatchError, SealedFileError):
            disk.remove(path)
            raise


def verify_file(path: Path, descriptor: Descriptor, key: bytes | None = None) -> None:
    """Raise `UnsafeFileError`, `DigestMismatchError` or `SealedFileError`."""
    digest, size = hashlib.sha256(), 0
    with open_plain(path) as file:
        for data in _blocks(file) if key is None else opened(file, key):
            digest.update(data)
            size += len(data)
    if size != descriptor.size or f"sha256:{digest.hexdigest()}" != descriptor.digest:  # [AGT-UPD-7]
        raise DigestMismatchError(f"{path.name}: not the bytes that were signed")


def open_plain(path: Path) -> BinaryIO:
    """A plain file of this user alone, with one name; raises `UnsafeFileError`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnsafeFileError(f"{path}: {error.strerror}") from error
    try:
        _check_plain(path, os.fstat(fd))
    except UnsafeFileError:
        os.close(fd)
        raise
    return os.fdopen(fd, "rb")


def _check_plain(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
        raise UnsafeFileError(f"{path}: not a plain file of this user with one name")
    if found.st_mode & 0o077:
        raise UnsafeFileError(f"{path}: others may use it (mode {stat.S_IMODE(found.st_mode):o})")


def read_plain(path: Path, size_bytes: int) -> bytes:
    """The first bytes of a plain file, one more than it should have; raises `UnsafeFileError`."""
    with open_plain(path) as file:
        return file.read(size_bytes + 1)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(READ_BYTES):
        yield data


def load_test(directory: Path, model: str, timeout_s: float = PROBE_S) -> dict[str, Any]:
    """Load and run the golden vectors in a child; returns what it measured. Raises `LoadTestError`."""
    arguments = ["-m", "outrider_agent.worker", "--artifact", str(directory), "--model", model, "--role", "probe"]
    try:
        done = subprocess.run([sys.executable, *arguments], capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise LoadTestError("LoadTimeoutError", f"it did not load within {timeout_s:.0f} s", "") from None
    said = _said(done.stdout)
    if done.returncode != 0 or not said.get("ok"):
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        message = str(said.get("message") or f"exit status {done.returncode}: {''.join(last)[:300]}")
        raise LoadTestError(str(said.get("error") or ""), message, str(said.get("hint") or ""))
    return said


def _said(stdout: bytes) -> dict[str, Any]:
    lines = stdout.decode(errors="replace").strip().splitlines()
    try:
        value = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def commit(directory: Path, target: Path, disk: Durable) -> None:
    """Sync everything and give the directory its final name."""
    if directory == target:
        return
    disk.sync_tree(directory)
    disk.make_directory(target.parent)
    disk.remove_tree(target)
    disk.rename(directory, target)


def is_complete(directory: Path, digest: str) -> bool:
    """Whether a committed directory still holds the manifest of that digest."""
    try:
        return ids.digest_of(read_plain(directory / MANIFEST_FILE, limits.MANIFEST_BYTES)) == digest
    except (OSError, UnsafeFileError):
        return False
