"""Golden bytes of every document. Write them anew with `python -m tests.protocol.test_vectors`."""

from pathlib import Path
from typing import Any

import pytest

from outrider_protocol import dsse, limits, telemetry, tensors
from tests.protocol import samples

VECTORS = Path(__file__).parent.parent / "vectors"
DOCUMENTS: dict[str, Any] = {
    "ack.json": samples.ACK,
    "presence.json": samples.PRESENCE,
    "state.json": samples.STATE,
    "event.json": samples.EVENT,
    "trust_online.json": samples.ONLINE,
    "enrol_request.json": samples.ENROL,
    "enrol_response.json": samples.ENROLLED,
    "renew_request.json": samples.RENEW,
    "renewal.json": samples.RENEWAL,
    "director.json": samples.DIRECTOR,
    "floors.json": samples.FLOORS,
    "order.json": samples.ORDER,
    "removal.json": samples.REMOVAL,
    "manifest.json": samples.MANIFEST,
    "index.json": samples.INDEX,
    "config.json": samples.CONFIG,
    "statistics.json": samples.STATISTICS,
    "preprocess.json": samples.PREPROCESS,
}
BINARIES: dict[str, bytes] = {
    "order.dsse.json": samples.ENVELOPE,
    "batch.bin": samples.BATCH,
    "event_batch.bin": samples.EVENT_BATCH,
    "tensors.bin": tensors.encode(*samples.TENSORS),
}


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_documents(name: str) -> None:
    """PRO-VEC-1: the bytes on disk are what today's code writes, and it reads them."""
    golden, document = (VECTORS / name).read_bytes(), DOCUMENTS[name]
    assert document.encode() == golden
    assert type(document).decode(golden) == document


@pytest.mark.parametrize("name", sorted(BINARIES))
def test_binaries(name: str) -> None:
    """PRO-VEC-1: signatures, batches and tensors are deterministic."""
    assert (VECTORS / name).read_bytes() == BINARIES[name]


def test_golden_order_verifies() -> None:
    """PRO-VEC-1: the golden envelope still verifies with the golden director file."""
    envelope = dsse.Envelope.decode((VECTORS / "order.dsse.json").read_bytes(), limits.ORDER_BYTES)
    payload = dsse.verify(envelope, "application/vnd.outrider.order.v1+json", samples.DIRECTOR.public_keys())
    assert payload == samples.ORDER.encode()
    assert telemetry.decode((VECTORS / "batch.bin").read_bytes()).kind == "predictions"


if __name__ == "__main__":
    for file, content in {**{n: d.encode() for n, d in DOCUMENTS.items()}, **BINARIES}.items():
        (VECTORS / file).write_bytes(content)
