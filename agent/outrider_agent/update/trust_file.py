"""`trusted.json`: every verified file in one, with a digest over all of them.

The digest is no signature: it tells a file that the disk damaged from one that this agent wrote. Without it a damaged
timestamp would be taken for a missing one, and an older one believed.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Final

from outrider_agent.durable import Durable
from outrider_agent.update.errors import TrustDamagedError
from outrider_protocol import canonical, limits
from outrider_protocol.errors import ProtocolError
from outrider_protocol.fields import VERSION, Fields

FILE: Final = "trusted.json"
SCRATCH: Final = "scratch-"  # directories beside it, of runs
STORE_BYTES: Final = 16 * limits.MIB
ROOT: Final = "root.json"

Kept = dict[str, bytes]
"""Verified metadata by file name: `root.json`, `timestamp.json`, …, a delegated role's name quoted."""


def begin(directory: Path, root: bytes, disk: Durable) -> None:
    """Write the first file, as enrolment does: this root and nothing else is trusted from now on."""
    disk.make_directory(directory)
    disk.write(directory / FILE, encode({ROOT: root}))


def encode(files: Kept) -> bytes:
    """The file's bytes."""
    texts = {name: data.decode() for name, data in files.items()}
    return canonical.encode({"v": VERSION, "files": texts, "sha256": _digest(texts)})


def load(path: Path) -> Kept:
    """Read the file; raises `TrustDamagedError`."""
    try:
        return decode(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise TrustDamagedError(f"{path} is missing") from None
    except OSError as error:
        raise TrustDamagedError(f"{path}: {error}") from error


def decode(data: bytes, what: str = FILE) -> Kept:
    """Parse the file's bytes; raises `TrustDamagedError`."""
    try:
        fields = Fields(canonical.decode(data, STORE_BYTES, FILE), FILE)
        texts = {str(name): str(text) for name, text in fields.versioned(frozenset()).object("files").value.items()}
        whole = fields.text("sha256") == _digest(texts)
    except ProtocolError as error:
        raise TrustDamagedError(f"{what}: {error}") from error
    if not whole or ROOT not in texts:
        raise TrustDamagedError(f"{what}: its content is not what was written")
    return {name: text.encode() for name, text in texts.items()}


def sweep(directory: Path) -> None:
    """Remove what runs that were killed left beside the file; only where no run is under way."""
    for left in directory.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)


def _digest(texts: dict[str, str]) -> str:
    return hashlib.sha256(canonical.encode(texts)).hexdigest()
