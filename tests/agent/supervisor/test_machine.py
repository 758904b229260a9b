"""The execution machine: every (stage, event) pair."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_agent.supervisor.machine import (
    ENDS,
    TABLE,
    Effect,
    Event,
    IllegalTransitionError,
    Stage,
    accepts,
    reported,
    step,
)
from outrider_protocol.execution import ENDS as STATE_ENDS
from outrider_protocol.execution import State, may_follow

SERVED = {Stage.PROBATION, Stage.ROLLING_BACK, Stage.ROLLING_BACK_SUPERSEDED}


@pytest.mark.parametrize(("stage", "event"), list(itertools.product(Stage, Event)))
def test_every_pair_is_decided(stage: Stage, event: Event) -> None:
    """AGT-EXE-9: a pair is in the table or refused; nothing is ignored."""
    if accepts(stage, event):
        assert isinstance(step(stage, event)[0], Stage)
    else:
        with pytest.raises(IllegalTransitionError):
            step(stage, event)


def test_every_stage_is_an_execution_state() -> None:
    """AGT-EXE-9: what the server is told is always a state of the protocol; ends are ends on both sides."""
    assert {reported(stage) for stage in ENDS} <= STATE_ENDS
    assert {reported(stage) for stage in set(Stage) - ENDS} & STATE_ENDS == set()
    assert reported(Stage.ROLLING_BACK) is State.PROBATION


def test_an_end_accepts_nothing_but_a_start() -> None:
    """AGT-EXE-9: after an end only RESTARTED is accepted, and it stays that end."""
    for stage, event in itertools.product(ENDS, Event):
        assert accepts(stage, event) == (event is Event.RESTARTED)
        if event is Event.RESTARTED:
            assert step(stage, event) == (stage, (Effect.REPORT,))


def test_every_stage_survives_a_restart_and_can_end() -> None:
    """AGT-EXE-5: a power cut in any stage resumes, and from every stage some end can be reached."""
    for stage in Stage:
        assert accepts(stage, Event.RESTARTED)
        assert reachable(stage) & ENDS


def reachable(stage: Stage) -> set[Stage]:
    found, todo = {stage}, [stage]
    while todo:
        here = todo.pop()
        for (source, _), (target, _) in TABLE.items():
            if source is here and target not in found:
                found.add(target)
                todo.append(target)
    return found


@given(st.lists(st.sampled_from(Event), max_size=40))
def test_no_history_succeeds_without_probation(events: list[Event]) -> None:
    """AGT-EXE-1: SUCCEEDED is entered only from PROBATION, after the candidate was started and swapped in."""
    stage, before, done = Stage.NOTIFIED, Stage.NOTIFIED, list[Effect]()
    for event in events:
        if accepts(stage, event):
            before, (stage, effects) = stage, step(stage, event)
            done += effects
            if stage is Stage.SUCCEEDED and before is not stage:
                assert (before, event) == (Stage.PROBATION, Event.PROBATION_PASSED)
                assert done.index(Effect.START_CANDIDATE) < done.index(Effect.SWAP) < done.index(Effect.PROMOTE)


@given(st.lists(st.sampled_from(Event), max_size=40))
def test_a_candidate_that_served_is_promoted_or_rolled_back(events: list[Event]) -> None:
    """AGT-EXE-4: no end leaves a candidate serving that did not succeed."""
    stage, serves = Stage.NOTIFIED, False
    for event in events:
        if accepts(stage, event):
            stage, effects = step(stage, event)
            for effect in effects:
                serves = (serves or effect is Effect.SWAP) and effect not in {Effect.ROLL_BACK, Effect.PROMOTE}
            assert not (serves and stage in ENDS)


@given(st.lists(st.sampled_from(Event), max_size=40))
def test_reports_move_forward_but_for_restarts(events: list[Event]) -> None:
    """AGT-EXE-10: without a restart or a second try, every report may follow the one before it."""
    stage, last = Stage.NOTIFIED, State.NOTIFIED
    for event in events:
        if event not in {Event.RESTARTED, Event.DOWNLOAD_BEGAN} and accepts(stage, event):
            stage, effects = step(stage, event)
            if Effect.REPORT in effects:
                assert may_follow(last, reported(stage))
                last = reported(stage)
