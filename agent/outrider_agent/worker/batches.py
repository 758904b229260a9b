"""Predictions on their way into telemetry: the leased sequence, the rows of the open batch, and their bodies. Pure.

Rules (docs/spec/local-api.md):

- A prediction's id is known before its answer is sent: it needs the lease of the batch that will hold the row.
- Without a lease the prediction is answered all the same, its id is null, and the batch says how many there were.
- A batch never exceeds `ROWS_MAX` rows, so that it fits one message.

>>> ledger = Ledger("dev-1", rows_max=250)
>>> ledger.lease("00112233aabbccdd", 7)
>>> ledger.add(Rows(1000, np.array([[0.1, 0.9]])))
['dev-1/00112233aabbccdd/7/0']
>>> ledger.close().seq, ledger.add(Rows(1001, np.array([[0.1, 0.9]])))
(7, None)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from outrider_agent.drift.statistics import WindowCounts
from outrider_agent.oip.codec import Array
from outrider_protocol import ids, telemetry
from outrider_protocol.manifest import Config
from outrider_protocol.statistics import Bins

ROWS_MAX: Final = 8000
REQUEST_ROWS_MAX: Final = 4000
CLOCK_FLOOR_MS: Final = 1_735_689_600_000
"""2025-01-01: a clock before it was never set."""


class Rows(NamedTuple):
    """The answers of one request: `probabilities` [n, K], at `at_ms`."""

    at_ms: int
    probabilities: Array


@dataclass(frozen=True)
class ClosedBatch:
    """A full batch: `seq` of the lease, its rows, and the predictions that had to go without an id."""

    outbox_id: str
    seq: int
    rows: list[Rows]
    n: int
    unleased: int


@dataclass
class Ledger:
    """The open batch and its lease."""

    device: str
    rows_max: int
    outbox_id: str = ""
    seq: int | None = None
    unleased: int = 0
    n: int = 0
    _rows: list[Rows] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """The batch should be closed."""
        return self.n >= min(self.rows_max, REQUEST_ROWS_MAX)

    def lease(self, outbox_id: str, seq: int) -> None:
        """The bulk sequence of the next batch."""
        self.outbox_id, self.seq = ids.outbox_id(outbox_id), seq

    def add(self, rows: Rows) -> list[str] | None:
        """Append rows; their prediction ids, or None where no lease is held."""
        n = len(rows.probabilities)
        if self.seq is None or self.n + n > ROWS_MAX:
            self.unleased += n
            return None
        first, self.n = self.n, self.n + n
        self._rows.append(rows)
        prefix = f"{self.device}/{self.outbox_id}/{self.seq}/"
        return [f"{prefix}{index}" for index in range(first, first + n)]

    def close(self) -> ClosedBatch | None:
        """Take the batch and its lease; None where there is no row (the lease stays)."""
        if self.seq is None or not self.n:
            return None
        closed = ClosedBatch(self.outbox_id, self.seq, self._rows, self.n, self.unleased)
        self._rows, self.n, self.unleased, self.seq = [], 0, 0, None
        return closed

    def give_back(self) -> int | None:
        """The lease of an empty batch, which then is held no longer."""
        if self.n:
            return None
        seq, self.seq = self.seq, None
        return seq


def predictions_body(batch: ClosedBatch, config: Config, digest: str) -> bytes:
    """The body of a `predictions` batch: columns at_ms (i8), klass (i2), confidence (f4), one row a prediction."""
    at_ms = np.repeat([rows.at_ms for rows in batch.rows], [len(rows.probabilities) for rows in batch.rows])
    probabilities = np.concatenate([rows.probabilities for rows in batch.rows])
    meta = {
        **_origin(config, digest),
        "n": batch.n,
        "start_ms": batch.rows[0].at_ms,
        "clock_ok": batch.rows[0].at_ms >= CLOCK_FLOOR_MS,
        "unleased": batch.unleased,
    }
    columns = {
        "at_ms": ("i8", at_ms.astype("<i8").tobytes()),
        "klass": ("i2", probabilities.argmax(axis=1).astype("<i2").tobytes()),
        "confidence": ("f4", probabilities.max(axis=1).astype("<f4").tobytes()),
    }
    return telemetry.encode_body("predictions", meta, columns)


@dataclass(frozen=True)
class Span:
    """When the windows of a statistics batch were seen; the drift phase and the detector's evidence after them."""

    start_ms: int
    end_ms: int
    phase: str
    evidence: float


def windows_body(counts: WindowCounts, bins: tuple[Bins, ...], span: Span, config: Config, digest: str) -> bytes:
    """The body of a `windows` batch: counts over the artifact's bins, in its order; `bins` counts them."""
    meta = {
        **_origin(config, digest),
        "n": counts.n,
        "start_ms": span.start_ms,
        "end_ms": span.end_ms,
        "clock_ok": span.start_ms >= CLOCK_FLOOR_MS,
        "phase": span.phase,
        "evidence": round(span.evidence, 3),
        "variables": [item.name for item in bins],
        "bins": [len(item.edges) + 1 for item in bins],
    }
    return telemetry.encode_body("windows", meta, counts.columns())


def _origin(config: Config, digest: str) -> dict[str, Any]:
    return {"model": config.model, "version": config.version, "digest": digest}
