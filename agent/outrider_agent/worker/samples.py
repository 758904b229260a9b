"""Which windows may leave the device for labelling. Pure: policy, candidates and randomness are arguments.

Rules (docs/spec/local-api.md):

- Nothing leaves where the policy is off, and never more windows or bytes a batch than it allows.
- A share of every choice is a random control arm: the least certain windows alone were worse than random.
- The others are those of least margin, taken in turn over the predicted classes, so that one class cannot fill a batch.
- Every sample carries the id of its prediction; a prediction without an id is never a sample.

>>> policy = Policy(True, per_batch_max=3, control_ratio=0.3)
>>> choice = choose(policy, np.array([0.9, 0.1, 0.2, 0.8]), np.array([0, 0, 1, 1]), np.random.default_rng(7))
>>> len(choice), {reason for _, reason in choice} == {"control", "uncertain"}
(3, True)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from outrider_agent.drift.scores import Classes, Floats
from outrider_agent.oip.codec import Array
from outrider_protocol import limits, telemetry
from outrider_protocol.manifest import Config

CONTROL: Final = "control"
UNCERTAIN: Final = "uncertain"
_ENVELOPE_BYTES: Final = 24 * limits.KIB
SAMPLES_BYTES: Final = limits.BATCH_BYTES - _ENVELOPE_BYTES
"""Raw values of one batch: what is left beside ids, reasons and the envelope."""
SAMPLES_MAX: Final = 128
DTYPES: Final = {
    "float32": "f4",
    "float64": "f8",
    "float16": "f2",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "int32": "i4",
}


@dataclass(frozen=True)
class Policy:
    """Whether raw inputs may leave, how many a batch, and which share of them at random."""

    enabled: bool
    per_batch_max: int
    control_ratio: float

    def count(self, row_bytes: int) -> int:
        """How many windows of `row_bytes` one batch may hold."""
        return min(self.per_batch_max, SAMPLES_MAX, SAMPLES_BYTES // max(row_bytes, 1)) if self.enabled else 0


@dataclass(frozen=True)
class Candidates:
    """Windows with ids: inputs `x` [n, …], `margin` [n] of the two largest probabilities, predicted `klass` [n]."""

    ids: list[str]
    x: Array
    margin: Floats
    klass: Classes


def margin_of(probabilities: Floats) -> Floats:
    """Difference of the two largest probabilities of each row: [N, K ≥ 2] → [N]; 1 where there is one class."""
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities))
    top = np.partition(probabilities, -2, axis=1)
    return np.asarray(top[:, -1] - top[:, -2])


def choose(
    policy: Policy, margin: Floats, klass: Classes, rng: np.random.Generator, row_bytes: int = 1
) -> list[tuple[int, str]]:
    """(row, reason) of each window to send, in order of rows."""
    count = min(policy.count(row_bytes), len(margin))
    control = min(count, math.ceil(count * policy.control_ratio)) if count else 0
    control = max(control, 1) if count else 0
    at_random = {int(row) for row in rng.permutation(len(margin))[:control]}
    uncertain = [row for row in _in_turn(margin, klass) if row not in at_random][: count - control]
    return sorted([(row, CONTROL) for row in at_random] + [(row, UNCERTAIN) for row in uncertain])


def _in_turn(margin: Floats, klass: Classes) -> list[int]:
    """Rows by least margin, one of each class in every round."""
    rank: dict[int, int] = {}
    keyed: list[tuple[int, float, int]] = []
    for row in np.argsort(margin, kind="stable"):
        k = int(klass[row])
        rank[k] = rank.get(k, -1) + 1
        keyed.append((rank[k], float(margin[row]), int(row)))
    return [row for _, _, row in sorted(keyed)]


def samples_body(
    policy: Policy, candidates: Candidates, config: Config, digest: str, rng: np.random.Generator
) -> tuple[bytes, int] | None:
    """The body of a `samples` batch and its number of windows; None where nothing may leave."""
    row_bytes = int(candidates.x[0].nbytes)
    chosen = choose(policy, candidates.margin, candidates.klass, rng, row_bytes)
    if not chosen or candidates.x.dtype.name not in DTYPES:
        return None
    rows = [row for row, _ in chosen]
    meta: dict[str, Any] = {
        "model": config.model,
        "version": config.version,
        "digest": digest,
        "n": len(rows),
        "input": config.inputs[0].name,
        "shape": list(candidates.x.shape[1:]),
        "dtype": DTYPES[candidates.x.dtype.name],
        "prediction_ids": [candidates.ids[row] for row in rows],
        "reason": [reason for _, reason in chosen],
    }
    x = np.ascontiguousarray(candidates.x[rows])
    columns = {"x": (meta["dtype"], x.astype(x.dtype.newbyteorder("<")).tobytes())}
    return telemetry.encode_body("samples", meta, columns), len(rows)
