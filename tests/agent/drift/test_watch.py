"""The detector on real recordings: docs/spec/drift.md."""

from __future__ import annotations

import pytest

from outrider_agent.drift.detector import Rule


def test_a_moved_wrist_is_noticed_and_a_resting_one_is_not() -> None:
    """AGT-DRF-15: seed 0: at least three of four moved devices within 120 windows, none of the four others."""
    torch = pytest.importorskip("torch", reason="trains a model; an agent alone has no torch")
    from examples.bench.drift_watch import measure
    from examples.watch.data import load

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours, psi, accuracy = measure(load(), 0, Rule(arl_windows=10_000))
    finally:
        torch.set_num_threads(threads)
    assert accuracy[0] > accuracy[1] + 0.3
    assert (ours.false_alarms, ours.quiet) == (0, 4)
    assert len(ours.found) >= 3
    assert psi.false_alarms == 4  # the rule without skill, for comparison
