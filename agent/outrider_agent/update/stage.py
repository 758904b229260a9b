"""Turns verified bytes into a committed artifact directory.

1. Every file is a plain file with one name, for its owner alone, with the digest and size of its descriptor.
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

from outrider_agent.durable import Durable
from outrider_agent.sealed import SealedFileError, opened
from outrider_agent.update.errors import LoadTestError, NoSpaceError, UnsafeFileError
from outrider_agent.update.sinks import sink_for
from outrider_protocol import ids
from outrider_protocol.errors import DigestMismatchError
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
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    digest, size = hashlib.sha256(), 0
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
            raise UnsafeFileError(f"{path}: not a plain file of this user with one name")
        if found.st_mode & 0o077:
            raise UnsafeFileError(f"{path}: others may use it (mode {stat.S_IMODE(found.st_mode):o})")
        for data in _blocks(file) if key is None else opened(file, key):
            digest.update(data)
            size += len(data)
    if size != descriptor.size or f"sha256:{digest.hexdigest()}" != descriptor.digest:  # [AGT-UPD-7]
        raise DigestMismatchError(f"{path.name}: not the bytes that were signed")


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
        return ids.digest_of((directory / MANIFEST_FILE).read_bytes()) == digest
    except OSError:
        return False
