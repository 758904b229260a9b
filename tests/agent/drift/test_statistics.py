"""Counts over the artifact's bins: docs/spec/drift.md."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from outrider_agent.drift.statistics import WindowCounter, WindowCounts, variables_of
from outrider_protocol.statistics import Bins

EDGES = (-1.0, -0.5, 0.0, 0.0, 2.0)
BINS = (Bins("channel.0.mean", EDGES, (0,) * 6), Bins("score.unknown", (0.0,), (0, 0)))
VALUES = hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(allow_nan=True, allow_infinity=True))


def counted(values: np.ndarray) -> WindowCounts:
    klass = (np.arange(len(values)) % 3).astype(np.int64)
    return WindowCounter(BINS, 3).count({"channel.0.mean": values}, klass, np.full(len(values), 0.5))


def same(left: WindowCounts, right: WindowCounts) -> bool:
    return left.columns() == right.columns() and left.n == right.n


@given(st.lists(VALUES, min_size=1, max_size=5), st.randoms())
def test_counts_merge_exactly_in_any_order(parts: list[np.ndarray], random: object) -> None:
    """AGT-DRF-13: merged counts are the counts of all values at once."""
    whole = [counted(part) for part in parts]
    shuffled = list(whole)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    left = sum(whole, WindowCounter(BINS, 3).empty())
    right = sum(shuffled, WindowCounter(BINS, 3).empty())
    assert same(left, right)
    together = np.concatenate(parts)
    assert left.bins[0].tolist() == counted(together).bins[0].tolist()
    assert left.n == len(together)


@given(VALUES)
def test_every_window_is_counted_once(values: np.ndarray) -> None:
    """AGT-DRF-14: in one bin or as missing; an unknown variable is missing everywhere."""
    counts = counted(values)
    assert counts.bins[0].sum() + counts.missing[0] == counts.n == len(values)
    assert counts.missing[0] == (~np.isfinite(values)).sum()
    assert counts.missing[1] == len(values)
    assert counts.class_counts.sum() == len(values)


def test_edges_belong_to_the_upper_bin() -> None:
    """AGT-DRF-13: edge i is the first value of bin i + 1, on every device."""
    assert counted(np.array([-1.0, -0.5, 0.0, 2.0])).bins[0].tolist() == [0, 1, 1, 0, 1, 1]


def test_variables_have_the_names_of_the_specification() -> None:
    """AGT-DRF-14: the names that a compiler may use."""
    named = variables_of(np.zeros((1, 4)), np.zeros((1, 1)), ("confidence",))
    assert sorted(named) == ["channel.0.mean", "channel.0.std", "channel.1.mean", "channel.1.std", "score.confidence"]
