"""Kills at random moments: a slice here, the thousand in `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.kills import Tally, trial

pytestmark = pytest.mark.e2e


def none_harmed(tally: Tally) -> None:
    assert tally.harm == []
    assert tally.total > 0
    assert tally.answers > 0


@pytest.mark.timeout(300)
def test_kills_at_random_moments(tmp_path: Path) -> None:
    """E2E-7: a slice of a minute: no brick, no lost floor, no false success."""
    none_harmed(trial(tmp_path, kills=30, seed=1, devices=2, limit_s=60))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_thousand_kills(tmp_path: Path) -> None:
    """E2E-7: a thousand kills of agents, their children and the server."""
    tally = trial(tmp_path, kills=1000, seed=0)
    none_harmed(tally)
    assert tally.total >= 1000
