"""What is on its way: pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outrider_agent.outbox.flight import Flight


def test_a_new_connection_sends_again_from_the_last_ack() -> None:
    """AGT-OUT-11: what the old connection took proves nothing."""
    flight = Flight(window=4, timeout_s=10.0)
    flight.connected(0.0)
    for seq in (1, 2, 3):
        flight.sent(seq, 0.0)
    flight.acked(1, 1.0)
    assert flight.plan(1, 1.0) == (3, 2)
    flight.connected(2.0)
    assert flight.plan(1, 2.0) == (1, 4)


def test_silence_sends_again() -> None:
    """AGT-OUT-11: after `timeout_s` without an ack everything unacknowledged goes again."""
    flight = Flight(window=4, timeout_s=10.0)
    flight.connected(0.0)
    flight.sent(1, 5.0)
    assert flight.plan(0, 15.0) == (1, 3)
    assert flight.plan(0, 15.1) == (0, 4)


@given(st.lists(st.integers(0, 3)))
def test_never_more_than_the_window(steps: list[int]) -> None:
    """AGT-OUT-11: at most `window` batches wait for their ack."""
    flight, acked, now_s = Flight(window=3, timeout_s=5.0), 0, 0.0
    for step in steps:
        now_s += step
        after, room = flight.plan(acked, now_s)
        assert 0 <= flight.waiting <= 3
        for seq in range(after + 1, after + 1 + room):
            flight.sent(seq, now_s)
        acked = max(acked, after - step)
        flight.acked(acked, now_s)
