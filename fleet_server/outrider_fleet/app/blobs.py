"""Artifact blobs on the server's disk, by digest.

1. A blob is stored only when its bytes have the digest that it is uploaded under.
2. It appears whole, synced before it gets its name; who uploads the same at the same time does no harm.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from outrider_fleet.app.fleet import Fleet
from outrider_fleet.config import Home
from outrider_fleet.errors import TamperedError, UnknownError
from outrider_fleet.pki.files import sync_directory, write_public
from outrider_fleet.store import sql
from outrider_fleet.store.tables import blobs
from outrider_protocol import ids


def put(fleet: Fleet, digest: str, data: bytes) -> bool:
    """Store a blob; returns whether it was new. Raises `TamperedError`."""
    if ids.digest_of(data) != ids.digest(digest):
        raise TamperedError(f"{digest}: the uploaded bytes have digest {ids.digest_of(data)}")
    path = fleet.home.blob(ids.hex_of(digest))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_public(path, data)
    with fleet.change() as change:
        row = {"digest": digest, "size": len(data), "created_ms": change.now_ms}
        return sql.insert_new(change.connection, blobs, row)


def read(fleet: Fleet, digest: str, size: int, what: str) -> bytes:
    """The bytes of a blob, checked anew; raises `UnknownError` or `TamperedError`."""
    path = path_of(fleet, digest, what)
    if path.stat().st_size != size:
        raise TamperedError(f"{what}: {path.stat().st_size} bytes, {size} were signed")
    data = path.read_bytes()
    if ids.digest_of(data) != digest:
        raise TamperedError(f"{what}: the stored bytes do not have digest {digest}")
    return data


def path_of(fleet: Fleet, digest: str, what: str) -> Path:
    """Where a blob lies; raises `UnknownError`."""
    path = fleet.home.blob(ids.hex_of(digest))
    if not path.exists():
        raise UnknownError(f"{what}: blob {digest} was not uploaded")
    return path


def sweep(home: Home) -> int:
    """Remove what a server that was killed had half received or half written; returns how many files.

    Only before requests are served: what is on its way looks the same.
    """
    found = [file for directory in (home.blobs, home.snapshots) for file in directory.glob(".*") if file.is_file()]
    for file in found:
        file.unlink()
    return len(found)


@dataclass(frozen=True)
class Received:
    """An upload on disk: its file, what was hashed while it came, its size in bytes."""

    file: str
    digest: str
    size: int


def adopt(fleet: Fleet, digest: str, received: Received, actor: str) -> bool:
    """Store an upload under its digest; returns whether it was new. Raises `TamperedError`."""
    if received.digest != ids.digest(digest):
        raise TamperedError(f"{digest}: the uploaded bytes have digest {received.digest}")
    path = fleet.home.blob(ids.hex_of(digest))
    _name(Path(received.file), path)
    with fleet.change() as change:
        row = {"digest": digest, "size": received.size, "created_ms": change.now_ms}
        created = sql.insert_new(change.connection, blobs, row)
        change.audit(actor, "blob.put", digest, {"size": received.size, "created": created})
    return created


def _name(file: Path, path: Path) -> None:
    """Give an upload its name beside it, without reading it again: it may be larger than memory."""
    with file.open("rb") as synced:
        os.fsync(synced.fileno())
    file.chmod(0o644)
    with suppress(FileExistsError):
        path.hardlink_to(file)
    sync_directory(path.parent)
