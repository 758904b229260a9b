"""Figures of each task: intervals, baselines, paired differences, and what is no truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_compiler import slices
from outrider_compiler.errors import DataError, GateError
from outrider_compiler.metrics import Anomaly, Classification, Regression, Task, anomaly, regression
from outrider_compiler.metrics.figure import number, wilson
from outrider_compiler.metrics.roc import area
from outrider_protocol.decision import Decision

RNG = np.random.default_rng(3)
THREE = Classification(("a", "b", "c"))
VALUES = Regression(Decision("regression", scale=0.1))
STRANGE = Anomaly(Decision("anomaly", threshold=1.0, scale=0.5))


def answers(y: np.ndarray, right: float, classes: int = 3) -> np.ndarray:
    """Probabilities [N, K] that are right for a share of the samples."""
    said = np.where(RNG.random(len(y)) < right, y, RNG.integers(0, classes, len(y)))
    return (np.eye(classes)[said] * 0.8 + 0.2 / classes).astype(np.float32)


def truth(task: Task, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and a decent model's output for a task."""
    if task.name == "classification":
        y = RNG.integers(0, 3, n)
        return y, answers(y, 0.8)
    if task.name == "regression":
        y = RNG.normal(size=(n, 1))
        return y, y + 0.3 * RNG.normal(size=(n, 1))
    y = (RNG.random(n) < 0.3).astype(np.int64)
    return y, (y + 0.6 * RNG.normal(size=n)).astype(np.float32)


@pytest.mark.parametrize("task", [THREE, VALUES, STRANGE], ids=lambda task: task.name)
def test_every_figure_has_an_interval_and_a_baseline(task: Task) -> None:
    """CMP-MET-1: each figure lies in its interval, says n and what no skill reaches; the same data give the same."""
    y, output = truth(task, 400)
    found = task.figures(output, y)
    assert {task.primary, task.skilled} <= set(found)
    for name, item in found.items():
        assert item.low <= item.value <= item.high, name
        assert item.n == 400
        assert item.no_skill is not None, name
    assert task.figures(output, y) == found
    assert found[task.primary].value == pytest.approx(task.primary_value(output, y), abs=1e-5)


@pytest.mark.parametrize("task", [THREE, VALUES, STRANGE], ids=lambda task: task.name)
def test_a_worse_candidate_loses(task: Task) -> None:
    """CMP-MET-2: the paired difference is 0 against oneself, positive for a worse model, within its interval."""
    y, output = truth(task, 600)
    same, worse = task.drop(output, output, y), output.copy()
    worse[:120] = output[:120][::-1]
    lost = task.drop(output, worse, y)
    assert (same.value, same.low, same.upper) == (0.0, 0.0, 0.0)
    assert 0 < lost.low <= lost.value <= lost.upper
    assert task.agreement(output, output) == 1.0
    assert task.agreement(output, worse) < 1.0


def test_intervals_cover() -> None:
    """CMP-MET-1: a 95 % interval of balanced accuracy covers the truth in about 95 % of fresh samples."""
    covered, times = 0, 200
    for _ in range(times):
        y = RNG.integers(0, 3, 300)
        item = THREE.figures(answers(y, 0.7), y)["balanced_accuracy"]
        covered += item.low <= 0.8 <= item.high
    assert covered >= 0.88 * times


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_macro_figures_are_the_definition(pairs: list[tuple[int, int]]) -> None:
    """CMP-MET-3: counted by cells or by hand, balanced accuracy and macro F1 are the same for any confusion."""
    y, said = (np.array(column) for column in zip(*pairs, strict=True))
    found = THREE.figures(np.eye(3)[said], y)
    seen = np.unique(y)
    recall = [float((said[y == k] == k).mean()) for k in seen]
    f1 = [2 * ((said == k) & (y == k)).sum() / ((said == k).sum() + (y == k).sum()) for k in seen]
    assert found["balanced_accuracy"].value == pytest.approx(np.mean(recall), abs=1e-5)
    assert found["f1_macro"].value == pytest.approx(np.mean(f1), abs=1e-5)
    assert found["accuracy"].value == pytest.approx((said == y).mean(), abs=1e-5)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_area_is_the_share_of_ordered_pairs(pairs: list[tuple[int, bool]]) -> None:
    """CMP-MET-3: AUC is the chance that an anomaly scores above a normal sample, ties counting half."""
    score, positive = np.array([s for s, _ in pairs], float), np.array([p for _, p in pairs])
    yes, no = score[positive], score[~positive]
    if not len(yes) or not len(no):
        assert np.isnan(area(score, positive))
        return
    wins = (yes[:, None] > no).mean() + 0.5 * (yes[:, None] == no).mean()
    assert area(score, positive) == pytest.approx(wins)


def test_no_skill_is_beaten_by_skill_alone() -> None:
    """CMP-MET-4: saying the commonest class reaches high accuracy and no balanced skill."""
    y = (RNG.random(500) < 0.04).astype(np.int64)
    always = np.tile([[0.9, 0.1]], (500, 1))
    found = Classification(("rest", "fall")).figures(always, y)
    assert found["accuracy"].value > 0.9
    assert found["balanced_accuracy"].low <= found["balanced_accuracy"].no_skill == 0.5


@pytest.mark.parametrize(
    ("task", "y", "said"),
    [
        (THREE, None, "has no `y`"),
        (THREE, np.array([0.5, 1.0]), "integer classes"),
        (THREE, np.array([0, 3]), r"lies in 0\.\.3, the model has 3 classes"),
        (VALUES, None, "has no `y`"),
        (VALUES, np.array(["a"]), "must be numbers"),
        (STRANGE, np.array([0, 0]), "both must occur"),
        (STRANGE, np.array([0, 2]), "both must occur"),
    ],
)
def test_what_is_no_truth_is_refused(task: Task, y: np.ndarray | None, said: str) -> None:
    """CMP-MET-5: labels that do not fit the task are refused in one sentence."""
    with pytest.raises(DataError, match=said):
        task.labels(y)


def test_what_could_not_be_measured_fails() -> None:
    """CMP-MET-6: a figure that is not finite is an error, not a missing line."""
    with pytest.raises(GateError, match="auc could not be measured"):
        number(float("nan"), "auc")
    with pytest.raises(DataError, match=r"the model gives \[2, 3\], y is \[2, 1\]"):
        VALUES.figures(np.zeros((2, 3)), np.zeros((2, 1)))


def test_thresholds_and_scales_are_the_sources_own() -> None:
    """CMP-MET-7: the anomaly threshold is a quantile of the source's scores, the tolerance a part of its spread."""
    scores = np.arange(1000.0)
    assert anomaly.decision_of(scores).threshold == pytest.approx(989.01)
    assert regression.scale_of(scores) == pytest.approx(scores.std() * 0.05)
    assert regression.scale_of(np.ones(5)) > 0
    assert set(STRANGE.per_class(np.array([0.0, 2.0, 2.0]), np.array([0, 1, 0]))) == {"normal", "anomaly"}
    assert wilson(1.0, 10)[1] == 1.0


def test_slices_are_judged_where_they_can_be() -> None:
    """CMP-SLI-1: each value of a slice has its figures; a small one is listed and not judged; the worst is found."""
    y, output = truth(THREE, 300)
    worse, site = output.copy(), np.array(["a"] * 200 + ["b"] * 95 + ["c"] * 5)
    worse[200:] = np.roll(output[200:], 1, axis=1)
    entries = slices.figures(THREE, output, worse, y, {"site": site})
    assert [(item["slice"], item["n"], item["judged"]) for item in entries] == [
        ("site=a", 200, True), ("site=b", 95, True), ("site=c", 5, False),
    ]  # fmt: skip
    worst = slices.worst(entries)
    assert worst is not None
    assert worst["slice"] == "site=b"
    assert worst["drop"] > 0.4
    assert slices.worst(()) is None
