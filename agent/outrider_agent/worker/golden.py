"""Golden vectors: the model must answer here as it did where it was built. Also warms the engine and times it.

Rules (docs/spec/local-api.md):

- Every output named by the vectors is compared: |got − expected| ≤ atol + rtol · |expected|, NaN equals nothing.
- Latency is the median over single windows (over batches, where a model takes fixed ones), after warming.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from outrider_agent.oip.codec import Array
from outrider_agent.worker.artifact import Artifact, Golden
from outrider_agent.worker.engine import Engine
from outrider_agent.worker.errors import GoldenMismatchError
from outrider_protocol.manifest import TensorSpec
from outrider_protocol.tensors import Tensor

WARM_RUNS: Final = 5
TIMED_RUNS: Final = 50
TIMED_MAX_S: Final = 1.0


@dataclass(frozen=True)
class Checked:
    """How many vectors passed, and the median time of one window in µs."""

    vectors: int
    latency_us: float


def check(artifact: Artifact, engine: Engine) -> Checked:
    """Run the golden vectors (zeros where the artifact has none), then warm and time; raises `GoldenMismatchError`."""
    if artifact.golden is None:
        feeds = {spec.name: _zeros(spec) for spec in artifact.config.inputs}
        return Checked(0, _latency_us(engine, feeds))
    inputs = {name: array_of(tensor) for name, tensor in artifact.golden.inputs.items()}
    outputs = engine.run(inputs)
    for name, expected in artifact.golden.outputs.items():
        _compare(name, outputs.get(name), array_of(expected), artifact.golden)
    return Checked(len(next(iter(inputs.values()))), _latency_us(engine, _one_batch(inputs, artifact.config.inputs)))


def array_of(tensor: Tensor) -> Array:
    """A read-only array over a tensor's bytes."""
    return np.frombuffer(tensor.data, np.dtype("<" + tensor.dtype)).reshape(tensor.shape)


def _zeros(spec: TensorSpec) -> Array:
    return np.zeros([max(n, 1) for n in spec.shape], dtype=spec.dtype)


def _one_batch(inputs: dict[str, Array], specs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """One window, or as many as a model with a fixed batch takes at once."""
    fixed = {spec.name: spec.shape[0] for spec in specs if spec.shape}
    return {name: np.ascontiguousarray(value[: max(fixed.get(name, 1), 1)]) for name, value in inputs.items()}


def _compare(name: str, got: Array | None, expected: Array, golden: Golden) -> None:
    if got is None or got.shape != expected.shape:
        raise GoldenMismatchError(f"output {name!r}: {None if got is None else got.shape}, expected {expected.shape}")
    difference = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    within = difference <= golden.atol + golden.rtol * np.abs(expected.astype(np.float64))
    if not within.all():
        raise GoldenMismatchError(
            f"output {name!r}: {int((~within).sum())} of {within.size} values differ, worst by {difference.max():.3g}"
        )


def _latency_us(engine: Engine, feeds: dict[str, Array]) -> float:
    times: list[float] = []
    while len(times) < WARM_RUNS + TIMED_RUNS and sum(times) < TIMED_MAX_S:
        started = time.perf_counter()
        engine.run(feeds)
        times.append(time.perf_counter() - started)
    return round(statistics.median(times[WARM_RUNS:] or times) * 1e6, 1)
