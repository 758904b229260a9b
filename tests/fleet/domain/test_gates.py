"""Gates and plans: what they say and what they refuse. Rules: docs/spec/rollout.md."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_fleet.domain import gates, plan
from outrider_fleet.domain.gates import Gate, Judgement, Verdict, wilson
from outrider_fleet.errors import GateError, InvalidRequestError

GATE = Gate("failures", max_ratio=0.2, min_sample=4)


@pytest.mark.parametrize(
    ("bad", "n", "final", "verdict"),
    [
        (0, 0, False, Verdict.WAIT),
        (3, 3, False, Verdict.WAIT),
        (0, 3, True, Verdict.WAIT),
        (3, 3, True, Verdict.ABORT),
        (4, 4, False, Verdict.ABORT),
        (0, 4, False, Verdict.WAIT),
        (0, 4, True, Verdict.ADVANCE),
        (1, 4, True, Verdict.ABORT),
        (0, 100, False, Verdict.ADVANCE),
        (60, 300, False, Verdict.WAIT),
    ],
)
def test_judgement(bad: int, n: int, *, final: bool, verdict: Verdict) -> None:
    """ROL-3: below the minimum it waits, surely above or below it decides, in between the end decides."""
    assert GATE.judge(bad, n, final=final).verdict is verdict


@given(st.integers(1, 500), st.integers(0, 500), st.floats(0.5, 0.999))
def test_bounds_hold_the_ratio(n: int, bad: int, confidence: float) -> None:
    """ROL-3: low ≤ ratio ≤ high, within 0..1."""
    bad = min(bad, n)
    low, high = wilson(bad, n, confidence)
    assert 0 <= low <= bad / n + 1e-12
    assert bad / n - 1e-12 <= high <= 1


@given(st.integers(0, 60), st.integers(1, 60), st.booleans())
def test_more_bad_is_never_better(bad: int, n: int, final: bool) -> None:
    """ROL-3: one more bad case never turns a worse verdict into a better one."""
    rank = {Verdict.ADVANCE: 0, Verdict.WAIT: 1, Verdict.ABORT: 2}
    bad = min(bad, n - 1)
    before, after = (GATE.judge(k, n, final=final).verdict for k in (bad, bad + 1))
    assert rank[after] >= rank[before]


def test_every_judgement_has_a_sentence() -> None:
    """ROL-14: no verdict without its reason."""
    for bad, n, final in ((0, 0, False), (3, 3, True), (0, 4, True), (4, 4, False), (0, 100, False), (60, 300, False)):
        assert GATE.judge(bad, n, final=final).why.startswith("failures: ")


def test_combining() -> None:
    """ROL-2: any abort aborts, any wait waits, and the reasons of those that decide are said."""
    go, wait, stop = (Judgement(v, v.value) for v in (Verdict.ADVANCE, Verdict.WAIT, Verdict.ABORT))
    assert gates.combine([go, wait, stop]) == Judgement(Verdict.ABORT, "abort")
    assert gates.combine([go, wait]) == Judgement(Verdict.WAIT, "wait")
    assert gates.combine([go, go]).verdict is Verdict.ADVANCE
    assert gates.combine([]).why == "no gate is set"


@pytest.mark.parametrize(
    "value",
    [
        {"latency": {"max_ratio": 0.1, "min_sample": 1}},
        {"failures": {"max_ratio": 0.1}},
        {"failures": {"min_sample": 1}},
        {"failures": {"max_ratio": 0.1, "min_sample": 1, "mood": 1}},
        {"failures": {"max_ratio": 1.1, "min_sample": 1}},
        {"failures": {"max_ratio": True, "min_sample": 1}},
        {"failures": {"max_ratio": 0.1, "min_sample": 0}},
        {"failures": {"max_ratio": 0.1, "min_sample": 1.5}},
        {"failures": {"max_ratio": 0.1, "min_sample": True}},
        {"failures": {"max_ratio": 0.1, "min_sample": 1, "confidence": 1}},
        {"failures": {"max_ratio": 0.1, "min_sample": 1, "confidence": "high"}},
        {"failures": 3},
    ],
)
def test_unparsed_gate_is_an_error(value: dict[str, Any]) -> None:
    """ROL-7: a gate is understood as a whole or refused."""
    with pytest.raises(GateError):
        gates.parse(value)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"phases": []},
        {"phases": "all"},
        {"phases": [{"name": "x"}]},
        {"phases": [{"max_devices": 1, "percent": 1}]},
        {"phases": [{"max_devices": 0}]},
        {"phases": [{"percent": 101}]},
        {"phases": [{"percent": float("nan")}]},
        {"phases": [{"percent": 50, "wind": 1}]},
        {"phases": [{"max_devices": 5}, {"max_devices": 4}]},
        {"phases": [{"percent": 50}, {"percent": 40}]},
        {"phases": [{"percent": 50}], "speed": 1},
        {"phases": [{"percent": 50}], "parameters": {"a": "b"}},
        {"phases": [{"percent": 50}], "parameters": []},
        {"phases": [{"percent": 50}], "execution_timeout_s": 0},
        {"phases": [{"percent": 50, "soak_s": float("inf")}]},
    ],
)
def test_refused_plan(value: dict[str, Any]) -> None:
    """ROL-7: unknown fields, shrinking phases and numbers out of range are refused."""
    with pytest.raises(InvalidRequestError):
        plan.parse(value)


@given(st.integers(0, 10_000), st.floats(0, 100))
def test_bound_never_exceeds_the_group(total: int, percent: float) -> None:
    """ROL-1: the bound of a phase lies within the group."""
    assert 0 <= plan.Phase("p", percent=percent).bound(total) <= total
    assert plan.Phase("p", max_devices=7).bound(total) == min(7, total)
