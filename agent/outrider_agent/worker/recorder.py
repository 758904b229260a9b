"""What happens to an answer after it was sent: statistics, drift, samples and prediction batches.

Rules (docs/spec/local-api.md):

- `add` is on the way of an answer and only appends; `work` does the sums, for many windows at once.
- A prediction batch is closed when it is full, or `flush_s` after its first row.
- Statistics are handed over at least every `WINDOWS_S` while windows come, and before a worker ends.
- Drift state is written down when its phase changes, at most every `SAVE_S` otherwise, and before a worker ends.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from outrider_agent.drift.monitor import Monitor
from outrider_agent.drift.reference import Windows
from outrider_agent.drift.scores import Floats
from outrider_agent.drift.state import DriftState
from outrider_agent.drift.statistics import WindowCounter, variables_of
from outrider_agent.oip.codec import Array
from outrider_agent.worker.batches import Ledger, Rows, Span, predictions_body, windows_body
from outrider_agent.worker.samples import Candidates, Policy, margin_of, samples_body
from outrider_protocol.manifest import Config
from outrider_protocol.messages import DriftReport
from outrider_protocol.statistics import Bins

WORK_WINDOWS: Final = 64
WORK_BYTES: Final = 256 * 1024
WINDOWS_S: Final = 10.0
SAVE_S: Final = 10.0


class Outlet(Protocol):
    """Where records go: the supervisor's channel."""

    def batch(self, kind: str, seq: int | None, n: int, body: bytes) -> None:
        """Hand one batch over."""

    def drift(self, report: DriftReport) -> None:
        """Hand an alarm over."""

    def phase(self, phase: str) -> None:
        """Tell the drift phase."""


class Answered(NamedTuple):
    """One answered request: input `x` [n, …], `probabilities` [n, K], `embedding` [n, D] or None."""

    x: Array
    probabilities: Array
    embedding: Array | None


@dataclass(frozen=True)
class Rules:
    """The worker's own settings, from agent.toml."""

    flush_s: float
    samples: Policy


@dataclass
class Kept:
    """Candidates for samples among the open batch's rows."""

    ids: list[str] = field(default_factory=list)
    x: list[Array] = field(default_factory=list)
    probabilities: list[Array] = field(default_factory=list)


class Recorder:
    """Owns the ledger, the monitor and the counts of one artifact."""

    def __init__(
        self, config: Config, digest: str, bins: tuple[Bins, ...], monitor: Monitor | None, ledger: Ledger, rules: Rules
    ) -> None:
        self._config, self._digest, self._rules = config, digest, rules
        self._bins, self._monitor, self.ledger = bins, monitor, ledger
        self._counter = WindowCounter(bins, len(config.classes))
        self._counts = self._counter.empty()
        self._counts_since_ms: tuple[int, float] | None = None
        self._pending: list[Answered] = []
        self._pending_windows = self._pending_bytes = 0
        self._kept = Kept()
        self._batch_since_s: float | None = None
        self._saved_s, self._saved_phase = 0.0, ""

    @property
    def phase(self) -> str:
        """The drift phase; `none` where this artifact or device does not watch."""
        return self._monitor.phase if self._monitor else "none"

    def begin(self, outlet: Outlet) -> None:
        """Tell the phase."""
        outlet.phase(self.phase)

    def add(self, answered: Answered, at_ms: int, now_s: float) -> list[str] | None:
        """Record one answer; the ids of its predictions, or None without a lease."""
        rows = len(answered.probabilities)
        named = self.ledger.add(Rows(at_ms, answered.probabilities))
        self._pending.append(answered)
        self._pending_windows += rows
        self._pending_bytes += int(answered.x.nbytes)
        if self._batch_since_s is None:
            self._batch_since_s = now_s
        if self._counts_since_ms is None:
            self._counts_since_ms = (at_ms, now_s)
        if named and self._rules.samples.count(answered.x.nbytes // max(rows, 1)):
            self._keep(named, answered)
        return named

    def due_s(self, now_s: float) -> float | None:
        """Seconds until `work` has something to do; None while nothing waits."""
        if self._busy():
            return 0.0
        times = []
        if self._batch_since_s is not None:
            times.append(self._batch_since_s + self._rules.flush_s)
        if self._counts_since_ms is not None:
            times.append(self._counts_since_ms[1] + WINDOWS_S)
        return max(0.0, min(times) - now_s) if times else None

    def work(self, outlet: Outlet, at_ms: int, now_s: float) -> None:
        """Do what is due."""
        batch_due = self._batch_since_s is not None and now_s - self._batch_since_s >= self._rules.flush_s
        if self._busy() or batch_due:
            self._digest_pending(outlet)
        if self.ledger.full or batch_due:
            self.close_batch(outlet)
        if self._counts_since_ms is not None and now_s - self._counts_since_ms[1] >= WINDOWS_S:
            self._send_windows(outlet, at_ms)

    def flush(self, outlet: Outlet, at_ms: int) -> None:
        """Hand over everything that waits."""
        self._digest_pending(outlet)
        self.close_batch(outlet)
        self._send_windows(outlet, at_ms)

    def close_batch(self, outlet: Outlet) -> None:
        """Close the open prediction batch, with the samples chosen from it."""
        closed, kept = self.ledger.close(), self._kept
        self._batch_since_s, self._kept = None, Kept()
        if closed is None:
            return
        outlet.batch("predictions", closed.seq, closed.n, predictions_body(closed, self._config, self._digest))
        if kept.ids:
            self._send_samples(outlet, kept, zlib.crc32(f"{closed.outbox_id}/{closed.seq}".encode()))

    def cleared(self, outlet: Outlet) -> bool:
        """A labelled check passed: windows so far are judged first; True if the phase changed."""
        self._digest_pending(outlet)
        changed = self._monitor is not None and self._monitor.cleared()
        if changed:
            outlet.phase(self.phase)
        return changed

    def to_save(self, now_s: float, *, force: bool = False) -> DriftState | None:
        """The drift state where it should be written down now."""
        if self._monitor is None:
            return None
        if not (force or self.phase != self._saved_phase or now_s - self._saved_s >= SAVE_S):
            return None
        self._saved_s, self._saved_phase = now_s, self.phase
        return self._monitor.kept()

    def _busy(self) -> bool:
        return self._pending_windows >= WORK_WINDOWS or self._pending_bytes >= WORK_BYTES or self.ledger.full

    def _keep(self, named: list[str], answered: Answered) -> None:
        if self._kept.x and self._kept.x[0].shape[1:] != answered.x.shape[1:]:
            return  # one batch of samples has one shape
        self._kept.ids.extend(named)
        self._kept.x.append(answered.x)
        self._kept.probabilities.append(answered.probabilities)

    def _digest_pending(self, outlet: Outlet) -> None:
        pending, self._pending = self._pending, []
        self._pending_windows = self._pending_bytes = 0
        for group in _same_shape(pending):
            self._take(group, outlet)

    def _take(self, windows: Windows, outlet: Outlet) -> None:
        before = self.phase
        names: tuple[str, ...] = ()
        scores: Floats = np.zeros((len(windows.x), 0))
        if self._monitor is not None:
            judged = self._monitor.observe(windows)
            names, scores = self._monitor.reference.names, judged.scores
            if judged.report is not None:
                outlet.drift(judged.report)
        variables = variables_of(windows.channels, scores, names) if self._bins else {}
        self._counts = self._counts + self._counter.count(variables, windows.klass, windows.confidence)
        if self.phase != before:
            outlet.phase(self.phase)

    def _send_windows(self, outlet: Outlet, at_ms: int) -> None:
        if self._counts_since_ms is None:
            return
        counts, since_ms = self._counts, self._counts_since_ms[0]
        self._counts, self._counts_since_ms = self._counter.empty(), None
        span = Span(since_ms, at_ms, self.phase, self._monitor.evidence if self._monitor else 0.0)
        body = windows_body(counts, self._bins, span, self._config, self._digest)
        outlet.batch("windows", None, counts.n, body)

    def _send_samples(self, outlet: Outlet, kept: Kept, seed: int) -> None:
        probabilities = np.concatenate(kept.probabilities)
        candidates = Candidates(
            kept.ids, np.concatenate(kept.x), margin_of(probabilities), probabilities.argmax(axis=1)
        )
        made = samples_body(self._rules.samples, candidates, self._config, self._digest, np.random.default_rng(seed))
        if made is not None:
            outlet.batch("samples", None, made[1], made[0])


def _same_shape(pending: list[Answered]) -> list[Windows]:
    """Consecutive answers of one input shape, joined."""
    groups: list[list[Answered]] = []
    for answered in pending:
        if not groups or groups[-1][0].x.shape[1:] != answered.x.shape[1:]:
            groups.append([])
        groups[-1].append(answered)
    return [_joined(group) for group in groups]


def _joined(group: list[Answered]) -> Windows:
    embeddings: list[Any] = [answered.embedding for answered in group]
    return Windows(
        np.concatenate([answered.x for answered in group]),
        np.concatenate([answered.probabilities for answered in group]),
        None if any(part is None for part in embeddings) else np.concatenate(embeddings),
    )
