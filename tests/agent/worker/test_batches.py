"""Leases and prediction ids: docs/spec/local-api.md."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from outrider_agent.worker.batches import REQUEST_ROWS_MAX, ROWS_MAX, Ledger, Rows, predictions_body
from outrider_protocol import limits, manifest, telemetry

OUTBOX = "00112233aabbccdd"
SPEC = manifest.TensorSpec("x", "float32", (-1, 2))
CONFIG = manifest.Config("har", "1.0", 1, "x86-64", "onnxruntime", "fp32", (SPEC,), (SPEC,), "y", ("a", "b"))
STEPS = st.lists(st.one_of(st.integers(1, 40), st.sampled_from(["lease", "close", "give_back"])), max_size=40)


def rows(n: int, at_ms: int = 1_800_000_000_000) -> Rows:
    return Rows(at_ms, np.random.default_rng(n).dirichlet((1, 1), n).astype(np.float32))


@given(STEPS)
def test_every_id_is_a_row_of_its_batch(steps: list[int | str]) -> None:
    """AGT-WRK-4, AGT-WRK-5: ids are never repeated, each is a row of the batch it names, and all others are counted."""
    ledger, seq, named, counted, nulls = Ledger("dev-1", 50), 0, [], 0, 0
    sizes: dict[int, int] = {}
    for step in steps:
        if step == "lease" and ledger.seq is None:
            seq += 1
            ledger.lease(OUTBOX, seq)
        elif step == "close":
            closed = ledger.close()
            if closed is not None:
                sizes[closed.seq] = sum(len(part.probabilities) for part in closed.rows)
                assert closed.n == sizes[closed.seq]
                counted += closed.unleased
        elif step == "give_back":
            ledger.give_back()
        elif isinstance(step, int):
            ids = ledger.add(rows(step))
            nulls += step * (ids is None)
            named += ids or []
    if ledger.seq is not None:
        sizes[ledger.seq] = ledger.n
    assert len(set(named)) == len(named) == sum(sizes.values())
    for name in named:
        _, outbox, batch, index = name.split("/")
        assert outbox == OUTBOX
        assert int(index) < sizes[int(batch)]
    assert nulls == counted + ledger.unleased


def test_the_largest_batch_fits_a_message() -> None:
    """AGT-WRK-4: `ROWS_MAX` predictions stay below the message's limit, however little they compress."""
    ledger = Ledger("dev-1", 10_000)
    ledger.lease(OUTBOX, 1)
    at_ms = 1_800_000_000_000
    for size in (REQUEST_ROWS_MAX - 1, 1, ROWS_MAX - REQUEST_ROWS_MAX):
        at_ms += 7919 * size
        assert ledger.add(rows(size, at_ms)) is not None
    assert ledger.add(rows(1)) is None
    closed = ledger.close()
    assert closed is not None
    body = predictions_body(closed, CONFIG, "sha256:" + "0" * 64)
    assert len(telemetry.wrap(OUTBOX, "bulk", 1, 0, body)) <= limits.BATCH_BYTES
    kind, meta, columns = telemetry.decode_body(body)
    assert (kind, meta["n"], columns["klass"].count, meta["clock_ok"]) == ("predictions", ROWS_MAX, ROWS_MAX, True)
