"""D5: a tampered copy was refused by the server, and by a device; nothing tampered lies on any device."""

from __future__ import annotations

import hashlib
from pathlib import Path

from examples.watch.checker.finding import Finding
from examples.watch.checker.record import Record
from outrider_protocol import ids, manifest
from outrider_protocol.errors import ProtocolError

REFUSED_BY_DEVICE = ("DigestMismatchError",)


def d5(record: Record) -> Finding:
    """Look for the server's refusal in its audit log, the device's in its execution, and at installed files."""
    server = [row["detail"] for row in record.query("SELECT detail FROM audit WHERE action = 'release.refused'")]
    tampered = [detail for detail in server if "TamperedError" in str(detail)]
    device = record.query(
        "SELECT device, error FROM executions WHERE error = ? AND state IN ('rejected', 'failed_unchanged')",
        *REFUSED_BY_DEVICE,
    )
    wrong = [text for name in record.devices for text in altered_files(record.device_home(name) / "var" / "artifacts")]
    return Finding(
        "D5",
        "tampered release",
        bool(tampered) and bool(device) and not wrong,
        f"server refused {len(tampered)}, devices refused {len(device)}, altered files on devices {len(wrong)}",
        "≥ 1, ≥ 1, 0",
        (*(f"{row['device']}: {row['error']}" for row in device), *wrong),
    )


def altered_files(artifacts: Path) -> list[str]:
    """Installed files that do not have the digest their manifest signs; a manifest of another digest counts too."""
    wrong: list[str] = []
    for directory in sorted(path for path in artifacts.iterdir() if path.is_dir() and len(path.name) == 64):
        wrong += _altered(directory)
    return wrong


def _altered(directory: Path) -> list[str]:
    raw = (directory / "manifest.json").read_bytes()
    if ids.digest_of(raw) != f"sha256:{directory.name}":
        return [f"{directory}: another manifest"]
    try:
        layers = manifest.Manifest.decode(raw).device_layers()
    except ProtocolError as error:
        return [f"{directory}: {error}"]
    found = {layer.title: hashlib.sha256((directory / layer.title).read_bytes()).hexdigest() for layer in layers}
    return [f"{directory / la.title}: altered" for la in layers if f"sha256:{found[la.title]}" != la.digest]
