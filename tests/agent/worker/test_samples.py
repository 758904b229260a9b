"""The choice of samples: docs/spec/local-api.md."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from outrider_agent.worker.samples import (
    CONTROL,
    SAMPLES_BYTES,
    UNCERTAIN,
    Candidates,
    Policy,
    choose,
    margin_of,
    samples_body,
)
from outrider_protocol import limits, telemetry
from tests.agent.worker.test_batches import CONFIG, OUTBOX


@given(st.integers(0, 60), st.integers(0, 40), st.floats(0, 1), st.integers(1, 200_000), st.integers(0, 9))
def test_a_choice_stays_within_its_budget(n: int, most: int, ratio: float, row_bytes: int, seed: int) -> None:
    """AGT-SMP-2, AGT-SMP-3: number, bytes, no window twice, and always a control arm."""
    rng = np.random.default_rng(seed)
    policy = Policy(True, most, ratio)
    chosen = choose(policy, rng.random(n), rng.integers(0, 3, n), rng, row_bytes)
    assert len(chosen) == min(n, policy.count(row_bytes))
    assert len(chosen) * row_bytes <= SAMPLES_BYTES
    assert len({row for row, _ in chosen}) == len(chosen)
    if chosen:
        assert CONTROL in {reason for _, reason in chosen}


def test_nothing_where_the_policy_is_off() -> None:
    """AGT-SMP-1: whatever the numbers say."""
    assert Policy(False, 100, 0.5).count(1) == 0


def test_uncertain_ones_are_spread_over_classes() -> None:
    """AGT-SMP-3: the least margin of each class comes before the second of any."""
    margin = np.array([0.01, 0.02, 0.03, 0.04, 0.5, 0.9])
    klass = np.array([0, 0, 0, 0, 1, 2])
    chosen = choose(Policy(True, 4, 0.01), margin, klass, np.random.default_rng(3))
    uncertain = [row for row, reason in chosen if reason == UNCERTAIN]
    assert len({int(klass[row]) for row in uncertain}) >= 2
    assert max(list(klass[uncertain]).count(k) for k in (0, 1, 2)) == 1


def test_the_control_arm_is_random() -> None:
    """AGT-SMP-3: over seeds every window is chosen about as often."""
    counts = np.zeros(20)
    for seed in range(2000):
        chosen = choose(Policy(True, 4, 1.0), np.linspace(0, 1, 20), np.zeros(20, int), np.random.default_rng(seed))
        counts[[row for row, _ in chosen]] += 1
    assert abs(counts - 400).max() < 90  # five standard deviations


@given(st.integers(1, 60), st.integers(1, 9000))
def test_a_batch_of_samples_fits_a_message(n: int, width: int) -> None:
    """AGT-SMP-2, AGT-SMP-4: with its ids, its reasons and values that do not compress."""
    x = np.random.default_rng(n).normal(size=(n, width)).astype(np.float32)
    ids = [f"{'d' * 64}/{OUTBOX}/9007199254740991/{row}" for row in range(n)]
    probabilities = np.random.default_rng(0).dirichlet((1, 1, 1), n)
    candidates = Candidates(ids, x, margin_of(probabilities), probabilities.argmax(1))
    made = samples_body(Policy(True, 1000, 0.5), candidates, CONFIG, "sha256:" + "0" * 64, np.random.default_rng(1))
    if made is None:
        assert x[0].nbytes > SAMPLES_BYTES
        return
    body, count = made
    assert len(telemetry.wrap(OUTBOX, "bulk", 1, 0, body)) <= limits.BATCH_BYTES
    _, meta, columns = telemetry.decode_body(body)
    assert columns["x"].count == count * width
    assert all(x[ids.index(name)] is not None for name in meta["prediction_ids"])
