"""What an operator, a gate or a newer rollout may do to a rollout. See `rollout` for the rules."""

from dataclasses import replace
from typing import Final

from outrider_fleet.domain.gates import Verdict
from outrider_fleet.domain.rollout_state import (
    OPEN,
    Acted,
    Action,
    Deviating,
    Effect,
    Member,
    Note,
    Restore,
    Rollout,
    Status,
    Step,
    with_members,
)
from outrider_fleet.errors import IllegalActionError
from outrider_protocol.execution import State

_ALLOWED: Final = {
    Action.APPROVE: frozenset({Status.PROPOSED}),
    Action.ADVANCE: frozenset({Status.RUNNING, Status.PAUSED}),
    Action.PAUSE: frozenset({Status.RUNNING}),
    Action.RESUME: frozenset({Status.PAUSED}),
    Action.ABORT: OPEN,
    Action.SUPERSEDE: OPEN,
    Action.ROLL_BACK: frozenset({Status.RUNNING, Status.PAUSED, Status.COMPLETED, Status.ABORTED}),
}


def act(rollout: Rollout, event: Acted, now_ms: int) -> Step:
    """Perform an action; raises `IllegalActionError` where the status does not allow it."""
    if rollout.status not in _ALLOWED[event.action]:
        raise IllegalActionError(f"{event.action.value}: {rollout.id} is {rollout.status.value}")
    return _ACTIONS[event.action](rollout, event.reason, now_ms)


def _approve(rollout: Rollout, reason: str, _now_ms: int) -> Step:
    return replace(rollout, status=Status.RUNNING), (Note("approved", reason or "approved"),)


def _step_forward(rollout: Rollout, reason: str, now_ms: int) -> Step:
    running = replace(rollout, status=Status.RUNNING, why=f"advanced by hand: {reason or 'by an operator'}")
    return leave_phase(running, now_ms)


def leave_phase(rollout: Rollout, now_ms: int) -> Step:
    """Enter the next phase, or complete after the last one."""
    if rollout.phase + 1 < len(rollout.plan.phases):
        entered = replace(rollout, phase=rollout.phase + 1, phase_entered_ms=now_ms)
        return entered, (Note("advanced", f"{rollout.why}; phase {entered.current.name} begins"),)
    why = f"completed: {rollout.why}"
    canceled = with_members(rollout, *(_canceled(m, now_ms) for m in rollout.members.values()))
    return replace(canceled, status=Status.COMPLETED, why=why), (Note("completed", why), *_deviating(rollout))


def _deviating(rollout: Rollout) -> tuple[Deviating, ...]:
    """The devices whose shadows refused what others run well by now; none where nobody does."""  # [ROL-19]
    proven = sum(m.state is State.SUCCEEDED for m in rollout.members.values())
    refused = [m for m in rollout.members.values() if m.refused]
    if proven <= len(refused):
        return ()
    return tuple(
        Deviating(
            member.device,
            f"its shadow disagreed in {member.shadow_disagree} of {member.shadow_n} windows with a release that "
            f"{proven} devices run: {rollout.id}",
        )
        for member in refused
    )


def _pause(rollout: Rollout, reason: str, _now_ms: int) -> Step:
    why = f"paused: {reason or 'by an operator'}"
    return replace(rollout, status=Status.PAUSED, why=why), (Note("paused", why),)


def _resume(rollout: Rollout, reason: str, _now_ms: int) -> Step:
    return replace(rollout, status=Status.RUNNING), (Note("resumed", reason or "resumed"),)


def _abort(rollout: Rollout, reason: str, now_ms: int) -> Step:
    why = f"aborted: {reason or 'by an operator'}"
    return end(rollout, Status.ABORTED, "aborted", why, now_ms)


def _supersede(rollout: Rollout, reason: str, now_ms: int) -> Step:
    why = f"superseded: {reason}"
    canceled = with_members(rollout, *(_canceled(m, now_ms) for m in rollout.members.values()))
    return replace(canceled, status=Status.SUPERSEDED, why=why), (Note("superseded", why),)


def _roll_back(rollout: Rollout, reason: str, now_ms: int) -> Step:
    why = f"rolling back: {reason or 'by an operator'}"
    touched = [m for m in rollout.members.values() if m.exposed and not m.restored and _needs_restoring(m)]
    cleared = with_members(
        rollout, *(_canceled(m, now_ms) for m in rollout.members.values()), *(_taken_back(m, now_ms) for m in touched)
    )
    effects: tuple[Effect, ...] = (
        *(Restore(m.device) for m in touched),
        Note("rolled_back", f"{why} ({len(touched)} devices)"),
    )
    return replace(cleared, status=Status.ROLLING_BACK, why=why), effects


def end(rollout: Rollout, status: Status, kind: str, why: str, now_ms: int) -> Step:
    """End it now: nobody else is exposed, what is unfinished is taken back."""
    pending = [m for m in rollout.members.values() if m.pending]
    ended = with_members(
        rollout, *(_canceled(m, now_ms) for m in rollout.members.values()), *(_taken_back(m, now_ms) for m in pending)
    )
    effects: tuple[Effect, ...] = (*(Restore(m.device) for m in pending), Note(kind, why))
    return replace(ended, status=status, verdict=Verdict.ABORT, why=why), effects


def _canceled(member: Member, now_ms: int) -> Member:
    """Queued executions are canceled; others stay as they are."""
    return member if member.exposed or member.ended else replace(member, state=State.CANCELED, updated_ms=now_ms)


def _taken_back(member: Member, now_ms: int) -> Member:
    unstarted = member.state in (State.QUEUED, State.NOTIFIED)
    state = State.CANCELED if unstarted else member.state
    return replace(member, restored=True, state=state, updated_ms=now_ms)


def _needs_restoring(member: Member) -> bool:
    return not member.ended or member.state in (State.SUCCEEDED, State.ALREADY_INSTALLED, State.TIMED_OUT)


_ACTIONS: Final = {
    Action.APPROVE: _approve,
    Action.ADVANCE: _step_forward,
    Action.PAUSE: _pause,
    Action.RESUME: _resume,
    Action.ABORT: _abort,
    Action.SUPERSEDE: _supersede,
    Action.ROLL_BACK: _roll_back,
}
