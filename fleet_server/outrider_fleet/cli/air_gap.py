"""`outrider-fleet export --air-gap DIR`: writes the folder that `outrider-agent import DIR` reads.

1. Every blob is held against its digest as it is written; what is there already, and right, is not fetched again.
2. Every file is synced before it gets its name: a stick that is pulled too early lacks files, none is cut. No mode is
   set: a stick's file system may have none.
3. Only a new or empty directory, or an earlier export, is written to.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import click

from outrider_fleet.cli.connection import Connection
from outrider_fleet.cli.options import as_json
from outrider_fleet.cli.output import emit
from outrider_fleet.pki.files import sync_directory
from outrider_protocol import documents

_BLOCK_BYTES: Final = 1024 * 1024


@click.command()
@click.option(
    "--air-gap",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder to write, e.g. on a USB stick.",
)
@click.option("--device", "devices", multiple=True, help="Only for this device; repeat. [default: all with an order]")
@as_json
@click.pass_obj
def export(server: Connection, directory: Path, devices: tuple[str, ...], *, as_json: bool) -> None:
    """Write a folder that carries releases and their orders to devices without a network."""
    _check_place(directory)
    found = server.post("/air-gap", {"devices": list(devices)})
    for hex_digest, size in ((digest.removeprefix("sha256:"), size) for digest, size in found["blobs"].items()):
        _bring_blob(server, directory / documents.blob_path(hex_digest), hex_digest, size)
    for name, text in found["documents"].items():
        _write(directory / documents.trust_path(name), text.encode())
    for device, envelope in found["orders"].items():
        _write(directory / documents.order_path(device), envelope.encode())
    about = documents.AirGap(found["fleet"], found["made_ms"], tuple(found["orders"]))
    _write(directory / documents.FOLDER_FILE, about.encode())
    emit(_summary(directory, found), as_json=as_json)


def _check_place(directory: Path) -> None:
    if directory.exists() and any(directory.iterdir()) and not (directory / documents.FOLDER_FILE).exists():
        raise click.UsageError(f"{directory} is not empty, and no earlier export")


def _bring_blob(server: Connection, path: Path, hex_digest: str, size: int) -> None:
    if path.exists() and path.stat().st_size == size and _digest_of(path) == hex_digest:
        return
    with _written(path) as (file, beside):
        server.download(f"/blobs/sha256:{hex_digest}", file)
        file.flush()
        if _digest_of(beside) != hex_digest:
            raise click.ClickException(f"blob {hex_digest}: other bytes came; run the command again")


@contextmanager
def _written(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A file beside `path` that gets its name, synced, when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("wb") as file:
            yield file, beside
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_directory(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _write(path: Path, data: bytes) -> None:
    with _written(path) as (file, _):
        file.write(data)


def _summary(directory: Path, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "folder": str(directory),
        "devices": sorted(found["orders"]),
        "releases": [f"{item['model']} {item['version']} for {item['profile']}" for item in found["releases"]],
        "bytes": sum(found["blobs"].values()),
        "good_until_ms": found["good_until_ms"],
    }


COMMANDS: Final = (export,)
