"""The detector's promises, by simulation with fixed seeds: docs/spec/drift.md."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_agent.drift.detector import Baseline, Detector, Rule, uniform_at

CLASSES = 7


def blocks(rng: np.random.Generator, n: int) -> np.ndarray:
    """Classes as an activity has them: one for 34 windows, then another."""
    return np.repeat(rng.integers(0, CLASSES, n // 34 + 1), 34)[:n]


def simulated(seed: int, n: int, shift: float = 0.0, baseline_n: int = 115) -> tuple[np.ndarray, np.ndarray]:
    """P-values and n_k of `n` windows of three scores against a baseline of its own."""
    rng = np.random.default_rng(seed)
    baseline = Baseline(rng.normal(size=(baseline_n, 3)), rng.integers(0, CLASSES, baseline_n))
    scores, klass = rng.normal(size=(n, 3)) + shift, blocks(rng, n)
    return baseline.p_values(scores, klass, uniform_at(seed, np.arange(n), 3))


def first_alarm(rule: Rule, p: np.ndarray, n_k: np.ndarray) -> int | None:
    hits = np.flatnonzero(Detector.fresh(rule, p.shape[1]).update(p, n_k) >= rule.arl_windows)
    return int(hits[0]) if len(hits) else None


@pytest.mark.parametrize("levels", [0, 3])
def test_p_values_are_uniform_under_exchangeability(levels: int) -> None:
    """AGT-DRF-2: over many baselines, also where scores have ties (three levels only)."""
    taken = []
    for seed in range(3000):
        rng = np.random.default_rng(seed)
        scores = rng.integers(0, levels, (21, 1)).astype(float) if levels else rng.normal(size=(21, 1))
        baseline = Baseline(scores[:20], np.zeros(20, np.int64))
        p, _ = baseline.p_values(scores[20:], np.zeros(1, np.int64), uniform_at(seed, np.array([20]), 1))
        taken.append(p[0, 0])
    ordered = np.sort(taken)
    distance = np.abs(ordered - (np.arange(3000) + 0.5) / 3000).max()
    assert distance < 1.63 / np.sqrt(3000)  # Kolmogorov's 1 % point


def test_an_unseen_class_gives_a_uniform_p_value() -> None:
    """AGT-DRF-3: it is the tie-breaking number itself, however strange the score."""
    uniform = uniform_at(7, np.arange(5), 2)
    p, n_k = Baseline(np.zeros((4, 2)), np.zeros(4, np.int64)).p_values(np.full((5, 2), 9.0), np.full(5, 3), uniform)
    np.testing.assert_array_equal(p, uniform)
    assert n_k.tolist() == [0] * 5


def test_p_values_are_small_where_scores_are_strange() -> None:
    """AGT-DRF-2: one-sided: stranger than the whole baseline gives the least p-value, less strange the greatest."""
    baseline = Baseline(np.arange(9.0)[:, None], np.zeros(9, np.int64))
    p, _ = baseline.p_values(np.array([[99.0], [-99.0]]), np.zeros(2, np.int64), np.full((2, 1), 0.5))
    assert p.ravel().tolist() == [0.05, 0.95]


@pytest.mark.parametrize(("n_k", "zone"), [(0, 0.4), (2, 0.4), (3, 0.36125), (15, 0.180625), (99, 0.07225)])
def test_the_dead_zone(n_k: int, zone: float) -> None:
    """AGT-DRF-4: min(.4, 2.5 · .289 / √(n_k + 1))."""
    assert Rule().dead_zone(np.array([n_k]))[0] == pytest.approx(zone)


@given(st.floats(0, 1), st.integers(0, 1000))
def test_e_values_are_never_negative_and_fair(p: float, n_k: int) -> None:
    """AGT-DRF-5: a bet loses at most what it stakes, and its mean over uniform p-values is at most one."""
    rule = Rule()
    assert (rule.bets(np.array([[p]]), np.array([n_k])) >= 0).all()
    grid = (np.arange(1000) + 0.5)[:, None] / 1000
    assert (rule.bets(grid, np.full(1000, n_k)).mean(0) <= 1.0).all()


@pytest.mark.parametrize("baseline_n", [115, 20_000])
def test_the_budget_holds(baseline_n: int) -> None:
    """AGT-DRF-5: runs without drift are at least `average_run_length` long on average (here 200, 80 runs)."""
    rule, cap = Rule(arl_windows=200), 2000
    alarms = [first_alarm(rule, *simulated(seed, cap, baseline_n=baseline_n)) for seed in range(80)]
    assert np.mean([cap if alarm is None else alarm + 1 for alarm in alarms]) >= 200


def test_drift_is_found_also_after_a_long_quiet() -> None:
    """AGT-DRF-6: the delay after 5,000 quiet windows is that after 100; nothing is missed."""
    rule = Rule(arl_windows=10_000)
    delays: dict[int, list[int]] = {100: [], 5000: []}
    for quiet, found in delays.items():
        for seed in range(20):
            p0, n0 = simulated(seed, quiet)
            p1, n1 = simulated(seed, 200, shift=2.0)
            alarm = first_alarm(rule, np.concatenate([p0, p1]), np.concatenate([n0, n1]))
            assert alarm is not None
            assert alarm >= quiet
            found.append(alarm - quiet)
    assert abs(np.median(delays[100]) - np.median(delays[5000])) <= 5


@given(st.integers(0, 100), st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_batching_changes_nothing(seed: int, sizes: list[int]) -> None:
    """AGT-DRF-7: evidence is the same however windows are grouped."""
    n = sum(sizes)
    rng = np.random.default_rng(seed)
    baseline = Baseline(rng.normal(size=(30, 2)), rng.integers(0, 3, 30))
    scores, klass = rng.normal(size=(n, 2)), rng.integers(0, 4, n)
    whole, parts = Detector.fresh(Rule(), 2), Detector.fresh(Rule(), 2)
    together = whole.update(*baseline.p_values(scores, klass, uniform_at(seed, np.arange(n), 2)))
    apart, start = [], 0
    for size in sizes:
        rows = slice(start, start + size)
        uniform = uniform_at(seed, np.arange(start, start + size), 2)
        apart.append(parts.update(*baseline.p_values(scores[rows], klass[rows], uniform)))
        start += size
    np.testing.assert_allclose(np.concatenate(apart), together)


def test_a_class_without_a_baseline_is_not_bet_on() -> None:
    """AGT-DRF-18: however long it lasts, evidence stands; with a baseline of five it moves."""
    detector = Detector.fresh(Rule(), 2)
    detector.update(np.full((10, 2), 0.1), np.full(10, 50))
    before = detector.evidence.copy()
    after = detector.update(np.full((20_000, 2), 1e-6), np.full(20_000, 2))
    np.testing.assert_array_equal(detector.evidence, before)
    assert (after == before.mean()).all()
    detector.update(np.full((1, 2), 0.1), np.full(1, 5))
    assert (detector.evidence != before).all()


def test_tie_breaking_numbers_are_uniform() -> None:
    """AGT-DRF-2: mean, spread and correlation of neighbours over 100,000 numbers."""
    u = uniform_at(12345, np.arange(50_000), 2)
    assert 0 < u.min() < u.max() < 1
    assert abs(u.mean() - 0.5) < 0.005
    assert abs(u.std() - 12**-0.5) < 0.005
    assert abs(np.corrcoef(u[:, 0], u[:, 1])[0, 1]) < 0.02
    assert abs(np.corrcoef(u[1:, 0], u[:-1, 0])[0, 1]) < 0.02
