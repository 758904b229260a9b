r"""The rollout engine: a pure state machine, stepped by events with the caller's clock.

    proposed -> running <-> paused
                   |  \------------> completed | aborted | superseded
                   any of these ----> rolling_back -> rolled_back

1. Devices exposed (ordered at least once in this rollout) never exceed the bound of the phase.
2. A phase is left only when every gate says so, it is full, and its soak time is over.
3. Where a shadow gate is set, devices that have not drifted are exposed first, and of these the ones whose
   detectors have gathered least evidence: only they can vote, and a drift that is not noticed yet votes wrongly.
4. A gate that says abort ends the rollout: nobody else is exposed, unfinished executions are taken back.
5. What is taken back is ordered its former release again (`Restore`); an execution that never started is canceled.
6. An execution without an end is `timed_out` after `execution_timeout_s`.
7. `ROLL_BACK` takes back what succeeded as well; it has ended when every former release is in place again.
8. When it completes, a device whose shadow refused what most others run is named: it sees other data (`Deviating`).
9. `step` returns the effects; the runner makes state and effects durable in one transaction.

>>> from outrider_fleet.domain.plan import parse
>>> from outrider_fleet.domain.rollout_state import Member
>>> plan = parse({"phases": [{"name": "canary", "max_devices": 1}, {"name": "all", "percent": 100}]})
>>> start = Rollout("ro-1", plan, Status.RUNNING, members={"a": Member("a"), "b": Member("b")})
>>> after, effects = step(start, Tick(), now_ms=0)
>>> effects[0].device, after.exposed, after.why
('a', 1, 'phase canary: 1 of 1 devices exposed, 0 ended; no gate is set; 1 executions have not ended')
"""

from dataclasses import replace

from outrider_fleet.domain import execution, rollout_actions
from outrider_fleet.domain.exposure import choose, judge
from outrider_fleet.domain.gates import Judgement, Verdict
from outrider_fleet.domain.rollout_state import (
    OPEN,
    Acted,
    Effect,
    Event,
    Expose,
    Joined,
    Note,
    Reported,
    Restored,
    Rollout,
    Status,
    Step,
    Tick,
    with_members,
)
from outrider_protocol.execution import State


def step(rollout: Rollout, event: Event, now_ms: int) -> Step:
    """Return the next state and its effects, in order; raises `IllegalActionError` for an impossible action."""
    if isinstance(event, Acted):
        changed, effects = rollout_actions.act(rollout, event, now_ms)
    else:
        changed, effects = _take_in(rollout, event, now_ms), ()
    advanced, more = _advance(changed, now_ms)
    return advanced, (*effects, *more)


def _take_in(rollout: Rollout, event: Tick | Reported | Joined | Restored, now_ms: int) -> Rollout:
    if isinstance(event, Reported):
        return _report(rollout, event, now_ms)
    if isinstance(event, Joined):
        fresh = {member.device: member for member in event.members if member.device not in rollout.members}
        return replace(rollout, members={**rollout.members, **fresh}) if rollout.status in OPEN else rollout
    if isinstance(event, Restored):
        return _restored(rollout, event.device)
    return _time_out(rollout, now_ms)


def _restored(rollout: Rollout, device: str) -> Rollout:
    member = rollout.members.get(device)
    return rollout if member is None else with_members(rollout, replace(member, restore_ended=True))


def _report(rollout: Rollout, event: Reported, now_ms: int) -> Rollout:
    member = rollout.members.get(event.device)
    if member is None or not execution.judge(member.state, event.report, member.digest).applied:
        return rollout
    report = event.report
    shadowed = report.shadow_n > 0
    changed = replace(
        member,
        state=report.state,
        updated_ms=now_ms,
        drifted=member.drifted or report.drifted,
        shadow_n=report.shadow_n if shadowed else member.shadow_n,
        shadow_disagree=report.shadow_disagree if shadowed else member.shadow_disagree,
        error=report.error or member.error,
    )
    return with_members(rollout, changed)


def _time_out(rollout: Rollout, now_ms: int) -> Rollout:
    limit_ms = rollout.plan.execution_timeout_s * 1000
    late = [m for m in rollout.members.values() if m.pending and now_ms - (m.ordered_ms or 0) > limit_ms]
    return with_members(
        rollout, *(replace(m, state=State.TIMED_OUT, updated_ms=now_ms, error="TimedOut") for m in late)
    )


def _advance(rollout: Rollout, now_ms: int) -> Step:
    """Expose, judge and advance until nothing changes any more."""
    effects: list[Effect] = []
    while rollout.status is Status.RUNNING:
        rollout, exposed = _expose(rollout, now_ms)
        judgement = judge(rollout)
        rollout = replace(rollout, verdict=judgement.verdict, why=_describe(rollout, judgement))
        effects += exposed
        if judgement.verdict is Verdict.ABORT:
            ended, more = rollout_actions.end(rollout, Status.ABORTED, "aborted", f"aborted in {rollout.why}", now_ms)
            return ended, (*effects, *more)
        if judgement.verdict is Verdict.WAIT or not _soaked(rollout, now_ms):
            break
        rollout, more = rollout_actions.leave_phase(rollout, now_ms)
        effects += more
    if rollout.status is Status.ROLLING_BACK and all(m.restore_ended for m in rollout.members.values() if m.restored):
        rollout = replace(rollout, status=Status.ROLLED_BACK, why=rollout.why.replace("rolling", "rolled", 1))
    return rollout, tuple(effects)


def _expose(rollout: Rollout, now_ms: int) -> Step:
    if rollout.phase_entered_ms is None:
        rollout = replace(rollout, phase_entered_ms=now_ms)
    room = rollout.bound - rollout.exposed  # [ROL-1]
    chosen = choose(rollout)[: max(0, room)]
    if not chosen:
        return rollout, ()
    ordered = (
        replace(m, state=State.NOTIFIED, phase=rollout.phase, ordered_ms=now_ms, updated_ms=now_ms) for m in chosen
    )
    text = f"phase {rollout.current.name}: {', '.join(m.device for m in chosen[:8])}{' …' if len(chosen) > 8 else ''}"
    effects: tuple[Effect, ...] = (*(Expose(m.device, rollout.phase) for m in chosen), Note("exposed", text))
    return with_members(rollout, *ordered), effects


def _soaked(rollout: Rollout, now_ms: int) -> bool:
    entered_ms = rollout.phase_entered_ms if rollout.phase_entered_ms is not None else now_ms
    return now_ms - entered_ms >= rollout.current.soak_s * 1000


def _describe(rollout: Rollout, judgement: Judgement) -> str:
    exposed = [m for m in rollout.members.values() if m.exposed]
    ended = sum(m.ended for m in exposed)
    counts = f"{len(exposed)} of {rollout.bound} devices exposed, {ended} ended"
    return f"phase {rollout.current.name}: {counts}; {judgement.why}"
