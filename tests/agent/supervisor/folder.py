"""Folders as `outrider-fleet export --air-gap` writes them, of what a broker would hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from outrider_protocol import documents
from tests.agent.supervisor.house import FLEET


def write_folder(
    folder: Path, device: str, envelope: bytes, trust: Mapping[str, bytes], chunks: Mapping[str, bytes]
) -> Path:
    """Write the order for one device, the trust documents (topic → bytes) and the blobs (topic → chunk)."""
    written = {documents.order_path(device): envelope}
    written |= {documents.trust_path(document(topic)): data for topic, data in trust.items()}
    written |= {documents.blob_path(digest): data for digest, data in blobs(chunks).items()}
    written[documents.FOLDER_FILE] = documents.AirGap(FLEET, 1, (device,)).encode()
    for path, data in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def document(topic: str) -> str:
    """The name of the trust document that is retained on a topic."""
    kind = topic.removeprefix("o1/trust/")
    return documents.root(int(kind[6:])) if kind.startswith("roots/") else f"{kind}.json"


def blobs(chunks: Mapping[str, bytes]) -> dict[str, bytes]:
    """Hex digest → whole blob."""
    found: dict[str, bytes] = {}
    for topic, data in chunks.items():
        digest = topic.split("/")[2]
        found[digest] = found.get(digest, b"") + data
    return found
