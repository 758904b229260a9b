"""Drift policy, autonomy and clearing. Rules: docs/spec/rollout.md."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_fleet.domain import autonomy, clearing
from outrider_fleet.domain.autonomy import Autonomy
from outrider_fleet.domain.clearing import LabelledCheck, group_test, labelled_check
from outrider_fleet.domain.drift_policy import Circumstances, DeviceDrift, DriftPolicy, Outcome, decide
from outrider_fleet.errors import InvalidRequestError

POLICY = DriftPolicy(min_share=0.3, min_devices=4, min_alarmed=2, cooldown_s=3600, min_labels=10)
NOW = Circumstances(reference_accuracy=0.85, labels=10, now_ms=10_000_000)


def watched(n: int, alarmed: int, estimate: float | None = 0.4) -> list[DeviceDrift]:
    return [DeviceDrift(f"d{i}", i < alarmed, estimate if i < alarmed else None) for i in range(n)]


@pytest.mark.parametrize(
    ("n", "alarmed", "change", "outcome"),
    [
        (8, 4, {}, Outcome.RUN),
        (8, 0, {}, Outcome.NOTHING),
        (3, 3, {}, Outcome.WAIT),
        (8, 1, {}, Outcome.MAINTENANCE),
        (20, 2, {}, Outcome.WAIT),
        (8, 4, {"labels": 9}, Outcome.WAIT),
        (8, 4, {"running": True}, Outcome.WAIT),
        (8, 4, {"last_run_ms": 10_000_000 - 3_599_000}, Outcome.WAIT),
        (8, 4, {"last_run_ms": 10_000_000 - 3_600_000}, Outcome.RUN),
    ],
)
def test_outcomes(n: int, alarmed: int, change: dict[str, Any], outcome: Outcome) -> None:
    """DRP-1, DRP-2, DRP-3 and DRP-4, one row each."""
    assert decide(POLICY, watched(n, alarmed), replace(NOW, **change)).outcome is outcome


@pytest.mark.parametrize(
    ("estimate", "harm", "words"),
    [(None, None, "harm unknown"), (0.35, 0.5, "estimated harm 50 points"), (0.95, -0.1, "estimated harm -10 points")],
)
def test_estimated_harm_informs(estimate: float | None, harm: float | None, words: str) -> None:
    """DRP-2: whatever is estimated, even a gain, the run starts, and its reason tells the estimate."""
    said = decide(POLICY, watched(8, 4, estimate), NOW)
    assert said.outcome is Outcome.RUN
    assert words in said.why
    assert said.reason()["estimated_harm"] == pytest.approx(harm)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (LabelledCheck, {"min_labels": 0}),
        (LabelledCheck, {"confidence": 1.5}),
        (LabelledCheck, {"confidence": 1}),
        (LabelledCheck, {"confidence": 0}),
        (LabelledCheck, {"min_accuracy": 1.1}),
        (DriftPolicy, {"min_share": 30}),
        (DriftPolicy, {"cooldown_s": float("nan")}),
        (DriftPolicy, {"cooldown_s": float("inf")}),
        (DriftPolicy, {"min_labels": 10**400}),
    ],
)
def test_thresholds_without_meaning(kind: type[DriftPolicy | LabelledCheck], value: dict[str, float]) -> None:
    """DRP-1 and CLR-2: what no sample can be judged by is refused when it is set, not found out by the engine."""
    with pytest.raises(InvalidRequestError, match=next(iter(value))):
        kind.parse(value)


@given(st.integers(0, 20), st.integers(0, 20))
def test_every_decision_has_a_reason(n: int, alarmed: int) -> None:
    """DRP-1: the figures behind a decision are recorded with it."""
    said = decide(POLICY, watched(n, min(alarmed, n)), NOW)
    assert said.why
    assert said.reason()["watched"] == n
    assert said.outcome is not Outcome.RUN or len(said.alarmed) >= POLICY.min_alarmed


@pytest.mark.parametrize("value", [{"min_share": -1}, {"min_share": "x"}, {"mood": 1}, {"min_devices": 1.5}])
def test_refused_policy(value: dict[str, Any]) -> None:
    """DRP-1: a policy is understood as a whole or refused."""
    with pytest.raises(InvalidRequestError):
        DriftPolicy.parse(value)
    with pytest.raises(InvalidRequestError):
        LabelledCheck.parse({"min_labels": 2.5})


def test_autonomy_levels() -> None:
    """DRP-5: what each level starts."""
    told = {level: (level.starts_runs, level.starts_rollouts) for level in Autonomy}
    assert list(told.values()) == [(False, False), (True, False), (True, True)]
    with pytest.raises(InvalidRequestError):
        autonomy.parse("reckless")


@pytest.mark.parametrize(
    ("correct", "n", "passed"), [(29, 29, False), (30, 30, True), (22, 30, False), (28, 30, True), (0, 0, False)]
)
def test_labelled_check(correct: int, n: int, *, passed: bool) -> None:
    """CLR-2: the lower bound must reach the threshold, and enough labels must be there."""
    found = labelled_check(LabelledCheck(min_labels=30, min_accuracy=0.7), correct, n)
    assert found.passed is passed
    assert found.why


def test_group_test() -> None:
    """CLR-3: three peers at least; one that deviates beyond their spread is not cleared."""
    peers = [0.90, 0.88, 0.91, 0.89]
    assert not group_test(0.9, peers[:2]).passed
    assert group_test(0.89, peers).passed
    assert not group_test(0.5, peers).passed
    assert clearing.group_test(0.9, [0.9, 0.9, 0.9]).passed
