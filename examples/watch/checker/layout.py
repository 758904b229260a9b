"""Artifacts and reports, found by digest in an OCI layout or in the server's store; every blob is checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from examples.watch.checker.record import Record, Row
from examples.watch.errors import RecordError
from outrider_protocol import ids, manifest

REPORT_FILE = "report.json"


def blob(blobs: Path, digest: str) -> bytes:
    """A blob whose digest was checked; raises `RecordError`."""
    path = blobs / ids.hex_of(digest)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(f"blob {digest}: {error}") from error
    if ids.digest_of(data) != digest:
        raise RecordError(f"blob {digest}: its bytes have another digest")
    return data


def model_file(record: Record, version: str, profile: str) -> tuple[bytes, manifest.Config]:
    """The model and its config, as the server stores the artifact."""
    blobs = record.fleet / "artifacts" / manifest.BLOBS
    artifact = manifest.Manifest.decode(blob(blobs, record.digest(version, profile)))
    config = manifest.Config.decode(blob(blobs, artifact.config.digest))
    layer = next(layer for layer in artifact.device_layers() if layer.role is manifest.Role.MODEL)
    return blob(blobs, layer.digest), config


def published_report(record: Record, version: str) -> Row:
    """The compiler's report of a published release: a referrer in its index."""
    row = record.one(f"release {version}", "SELECT index_json FROM releases WHERE version = ?", version)
    index = manifest.Index.decode(str(row["index_json"]).encode())
    return _report(index, record.fleet / "artifacts" / manifest.BLOBS)


def built_report(layout: Path) -> Row:
    """The compiler's report in an OCI layout on disk."""
    try:
        index = manifest.Index.decode((layout / manifest.INDEX_FILE).read_bytes())
    except OSError as error:
        raise RecordError(f"{layout}: {error}") from error
    return _report(index, layout / manifest.BLOBS)


def _report(index: manifest.Index, blobs: Path) -> Row:
    for referrer in index.referrers:
        for layer in manifest.Manifest.decode(blob(blobs, referrer.digest)).layers:
            if layer.annotations.get(manifest.TITLE) == REPORT_FILE:
                value: Any = json.loads(blob(blobs, layer.digest))
                return dict(value)
    raise RecordError(f"release {index.release}: no {REPORT_FILE} among its referrers")
