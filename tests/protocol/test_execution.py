"""Execution states as both sides see them."""

import itertools

import pytest

from outrider_protocol.execution import ENDS, RANK, WAY, State, may_follow

PAIRS = list(itertools.product(State, State))


@pytest.mark.parametrize(("earlier", "later"), PAIRS)
def test_every_pair_is_decided(earlier: State, later: State) -> None:
    """PRO-EXE-1: nothing follows an end; PRO-EXE-2: reports never move backwards."""
    allowed = may_follow(earlier, later)
    if earlier in ENDS:
        assert not allowed
    elif later in ENDS:
        assert allowed
    else:
        assert allowed == (WAY.index(later) >= WAY.index(earlier))


def test_succeeded_is_the_last_step() -> None:
    """PRO-EXE-1: the way ends in success, and every state stands on the way or is an end."""
    assert max(RANK, key=RANK.__getitem__) is State.SUCCEEDED
    assert set(WAY) | ENDS == set(State)
