"""The rollout engine, model-checked. Rules: docs/spec/rollout.md."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outrider_fleet.domain import execution, plan
from outrider_fleet.domain.execution import Proof, Report
from outrider_fleet.domain.gates import Verdict
from outrider_fleet.domain.rollout import step
from outrider_fleet.domain.rollout_state import (
    OPEN,
    Acted,
    Action,
    Deviating,
    Effect,
    Expose,
    Joined,
    Member,
    Note,
    Reported,
    Restore,
    Restored,
    Rollout,
    Status,
    Tick,
)
from outrider_fleet.errors import IllegalActionError
from outrider_protocol.execution import ENDS, FAILURES, State

DIGEST = "sha256:" + "ab" * 32
PLAN = plan.parse(
    {
        "phases": [
            {"name": "canary", "max_devices": 2},
            {"name": "half", "percent": 50, "soak_s": 10},
            {"name": "all", "percent": 100},
        ],
        "gates": {"failures": {"max_ratio": 0.3, "min_sample": 2}, "shadow": {"max_ratio": 0.3, "min_sample": 10}},
        "execution_timeout_s": 100,
    }
)
PROVEN = Report(State.SUCCEEDED, Proof(DIGEST, 5), shadow_n=10, shadow_disagree=1)


def fleet(n: int, drifted: int = 0) -> dict[str, Member]:
    return {f"d{i}": Member(f"d{i}", digest=DIGEST, drifted=i < drifted) for i in range(n)}


def begin(n: int = 8, drifted: int = 0, text: dict[str, object] | None = None) -> Rollout:
    members = fleet(n, drifted)
    return step(Rollout("ro-1", plan.parse(text) if text else PLAN, Status.RUNNING, members=members), Tick(), 0)[0]


def exposed(rollout: Rollout) -> list[str]:
    return [member.device for member in rollout.members.values() if member.exposed]


def report_all(rollout: Rollout, report: Report, now_ms: int = 0) -> Rollout:
    for device in exposed(rollout):
        if not rollout.members[device].ended:
            rollout, _ = step(rollout, Reported(device, report), now_ms)
    return rollout


class Engine(RuleBasedStateMachine):
    """Any sequence of events: what must always hold, holds."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms, self.joined, self.effects = 0, 6, []
        self.rollout = begin(6, drifted=2)
        self.ever_exposed = set(exposed(self.rollout))
        self.at_end: Rollout | None = None

    def _step(self, event: object) -> None:
        before = self.rollout
        self.rollout, effects = step(before, event, self.now_ms)  # type: ignore[arg-type]  # drawn from all events
        ordered = [effect.device for effect in effects if isinstance(effect, Expose)]
        assert not set(ordered) & self.ever_exposed, "a device is exposed once"
        assert set(ordered) == set(exposed(self.rollout)) - set(exposed(before)), "exposure and orders agree"
        self.ever_exposed |= set(ordered)
        for effect in effects:
            if isinstance(effect, Restore):
                assert self.rollout.members[effect.device].restored

    @rule(seconds=st.integers(0, 60))
    def time_passes(self, seconds: int) -> None:
        self.now_ms += seconds * 1000
        self._step(Tick())

    @rule(
        number=st.integers(0, 9),
        state=st.sampled_from(State),
        right=st.booleans(),
        disagree=st.integers(0, 10),
        drifted=st.booleans(),
    )
    def device_reports(self, number: int, state: State, right: bool, disagree: int, drifted: bool) -> None:
        proof = Proof(DIGEST if right else "sha256:" + "00" * 32, 3)
        self._step(Reported(f"d{number}", Report(state, proof, 10, disagree, drifted)))

    @precondition(lambda self: self.joined < 10)
    @rule()
    def device_joins(self) -> None:
        self._step(Joined((Member(f"d{self.joined}", digest=DIGEST),)))
        self.joined += 1

    @rule(number=st.integers(0, 9))
    def restored(self, number: int) -> None:
        self._step(Restored(f"d{number}"))

    @rule(action=st.sampled_from([Action.PAUSE, Action.RESUME, Action.ABORT, Action.ROLL_BACK, Action.SUPERSEDE]))
    def operator_acts(self, action: Action) -> None:
        try:
            self._step(Acted(action, "drawn"))
        except IllegalActionError:
            assert self.rollout.status is not Status.RUNNING or action is Action.RESUME

    @invariant()
    def exposure_never_exceeds_the_phase(self) -> None:
        """ROL-1."""
        assert self.rollout.exposed <= self.rollout.bound

    @invariant()
    def success_is_proven(self) -> None:
        """ROL-17 is kept by `execution.judge`; here: nobody succeeded without having been ordered."""
        for member in self.rollout.members.values():
            assert member.state is State.QUEUED or member.exposed or member.ended or member.state is not State.SUCCEEDED

    @invariant()
    def ends_are_final(self) -> None:
        """ROL-6: after the end nobody else is exposed."""
        if self.rollout.status in OPEN:
            self.at_end = None
        elif self.at_end is None:
            self.at_end = self.rollout
        else:
            assert exposed(self.rollout) == exposed(self.at_end)

    @invariant()
    def there_is_always_a_reason(self) -> None:
        """ROL-14."""
        assert self.rollout.why


Engine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestEngine = Engine.TestCase


def test_phases_in_order() -> None:
    """ROL-1 and ROL-2: 2, then half after the gates, then all after the soak time."""
    rollout = begin()
    assert rollout.exposed == 2
    rollout = report_all(rollout, PROVEN)
    assert (rollout.phase, rollout.exposed) == (1, 4)
    rollout = report_all(rollout, PROVEN, now_ms=9_000)
    assert (rollout.phase, rollout.exposed) == (1, 4)
    rollout, effects = step(rollout, Tick(), 10_000)
    assert (rollout.phase, rollout.exposed) == (2, 8)
    assert any(isinstance(effect, Note) and effect.kind == "advanced" for effect in effects)
    rollout = report_all(rollout, PROVEN, now_ms=11_000)
    assert rollout.status is Status.COMPLETED


def test_undrifted_first() -> None:
    """ROL-4: with a shadow gate the drifted ones come last, without one the choice is only spread."""
    assert set(exposed(begin(8, drifted=6))) == {"d6", "d7"}
    free = {"phases": [{"max_devices": 4}, {"percent": 100}]}
    assert set(exposed(begin(8, drifted=4, text=free))) != {"d4", "d5", "d6", "d7"}


def test_least_evidence_first() -> None:
    """ROL-4: of the undrifted those with least evidence come first, by powers of ten; without that gate nobody asks."""
    members = {name: replace(m, evidence=850.0 if int(name[1]) < 6 else 15.0) for name, m in fleet(8).items()}
    begun, _ = step(Rollout("ro-1", PLAN, Status.RUNNING, members=members), Tick(), 0)
    assert set(exposed(begun)) == {"d6", "d7"}
    alike = {name: replace(m, evidence=float(int(name[1]))) for name, m in fleet(8).items()}
    spread, _ = step(Rollout("ro-1", PLAN, Status.RUNNING, members=alike), Tick(), 0)
    assert exposed(spread) == exposed(begin(8))
    free = plan.parse({"phases": [{"max_devices": 2}, {"percent": 100}]})
    asked, _ = step(Rollout("ro-1", free, Status.RUNNING, members=members), Tick(), 0)
    assert exposed(asked) == exposed(begin(8))


@pytest.mark.parametrize(("refusing", "drifted", "named"), [(1, False, 1), (3, False, 3), (4, False, 0), (1, True, 0)])
def test_who_deviates_from_the_fleet(refusing: int, drifted: bool, named: int) -> None:
    """ROL-19: undrifted devices that refused are named at completion, where more run the release than refused it."""
    gates = {"shadow": {"max_ratio": 0.9, "min_sample": 1}}
    rollout = begin(8, text={"phases": [{"percent": 100}], "gates": gates})
    refused = Report(
        State.FAILED_UNCHANGED, shadow_n=16, shadow_disagree=12, error="shadow_disagreement", drifted=drifted
    )
    effects: tuple[Effect, ...] = ()
    for n, device in enumerate(exposed(rollout)):
        rollout, more = step(rollout, Reported(device, refused if n < refusing else PROVEN), 0)
        effects += more
    assert rollout.status is Status.COMPLETED
    found = [effect for effect in effects if isinstance(effect, Deviating)]
    assert len(found) == named
    assert all("12 of 16" in effect.text for effect in found)


def test_only_undrifted_vote() -> None:
    """ROL-5: a drifted device's disagreement counts for nothing."""
    rollout = begin()
    first, second = exposed(rollout)
    rollout, _ = step(rollout, Reported(first, replace(PROVEN, shadow_disagree=9, drifted=True)), 0)
    rollout, _ = step(rollout, Reported(second, PROVEN), 0)
    assert rollout.phase == 1


def test_nobody_can_vote() -> None:
    """ROL-5: where every canary has drifted the shadow gate waits and says so."""
    rollout = report_all(begin(4, drifted=4), replace(PROVEN, drifted=True))
    assert rollout.status is Status.RUNNING
    assert "none can vote" in rollout.why


def test_failures_abort() -> None:
    """ROL-3 and ROL-6: what began is restored, what did not is canceled, the rest never starts."""
    rollout = begin()
    first, second = exposed(rollout)
    rollout, effects = step(rollout, Reported(first, Report(State.FAILED_UNCHANGED, None, 10, 9)), 0)
    assert rollout.status is Status.ABORTED
    assert [effect.device for effect in effects if isinstance(effect, Restore)] == [second]
    assert rollout.members[second].state is State.CANCELED
    assert rollout.exposed == 2
    assert {m.state for d, m in rollout.members.items() if d not in (first, second)} == {State.CANCELED}


def test_execution_under_way_is_restored() -> None:
    """ROL-6: a device in the middle is ordered its former release; it says itself how that ended."""
    rollout = begin()
    first, second = exposed(rollout)
    rollout, _ = step(rollout, Reported(second, Report(State.DOWNLOADING)), 0)
    rollout, effects = step(rollout, Acted(Action.ABORT, "stop"), 0)
    assert {effect.device for effect in effects if isinstance(effect, Restore)} == {first, second}
    assert rollout.members[second].state is State.DOWNLOADING
    rollout, _ = step(rollout, Reported(second, Report(State.SUPERSEDED)), 0)
    assert rollout.members[second].state is State.SUPERSEDED


def test_no_traffic_waits() -> None:
    """ROL-3: a canary without traffic is neither success nor failure."""
    rollout = begin()
    first, second = exposed(rollout)
    rollout, _ = step(rollout, Reported(first, PROVEN), 0)
    rollout, _ = step(rollout, Reported(second, Report(State.PROBATION)), 50_000)
    assert rollout.verdict is Verdict.WAIT
    assert "1 of at least 2 seen" in rollout.why


def test_time_out() -> None:
    """ROL-8: pending executions end after the limit, and count as failures."""
    rollout, _ = step(begin(), Tick(), 100_001)
    assert {rollout.members[d].state for d in exposed(rollout)} == {State.TIMED_OUT}
    assert rollout.status is Status.ABORTED


def test_everything_installed_already() -> None:
    """ROL-3: where no device had anything to install there is nothing to judge."""
    rollout = begin(2)
    rollout = report_all(rollout, Report(State.ALREADY_INSTALLED))
    rollout, _ = step(rollout, Tick(), 20_000)
    assert rollout.status is Status.COMPLETED


def test_roll_back() -> None:
    """ROL-10: succeeded and unfinished devices are restored, failed ones run the former release anyway."""
    free = {"phases": [{"percent": 100}], "gates": {"failures": {"max_ratio": 1, "min_sample": 1}}}
    rollout = begin(3, text=free)
    rollout, _ = step(rollout, Reported("d0", Report(State.SUCCEEDED, Proof(DIGEST, 1))), 0)
    rollout, _ = step(rollout, Reported("d1", Report(State.ROLLED_BACK)), 0)
    rollout, effects = step(rollout, Acted(Action.ROLL_BACK, "recall"), 0)
    assert {effect.device for effect in effects if isinstance(effect, Restore)} == {"d0", "d2"}
    assert rollout.status is Status.ROLLING_BACK
    for device in ("d0", "d2"):
        rollout, _ = step(rollout, Restored(device), 0)
    assert rollout.status is Status.ROLLED_BACK


def test_newcomer() -> None:
    """ROL-15: who joins is exposed when the phase has room."""
    rollout = report_all(begin(2), PROVEN)
    rollout, effects = step(rollout, Joined((Member("d9", digest=DIGEST),)), 60_000)
    assert [effect.device for effect in effects if isinstance(effect, Expose)] == ["d9"]


@pytest.mark.parametrize(("status", "action"), list(itertools.product(Status, Action)))
def test_every_pair_is_decided(status: Status, action: Action) -> None:
    """ROL-11: an action is performed or refused, never ignored."""
    rollout = replace(begin(), status=status)
    try:
        after, effects = step(rollout, Acted(action, "test"), 0)
    except IllegalActionError:
        return
    assert (after, effects) != (rollout, ())


def test_advance_by_hand() -> None:
    """ROL-11: an operator may leave a phase that its gates hold."""
    rollout, _ = step(begin(), Acted(Action.ADVANCE, "we looked"), 0)
    assert (rollout.phase, rollout.exposed) == (1, 4)


def test_proposed_exposes_nobody() -> None:
    """DRP-5: what waits for a person waits."""
    proposed = Rollout("ro-1", PLAN, Status.PROPOSED, members=fleet(4))
    rollout, effects = step(proposed, Tick(), 0)
    assert (rollout.exposed, effects) == (0, ())
    assert step(rollout, Acted(Action.APPROVE), 0)[0].exposed == 2


@pytest.mark.parametrize(("known", "said"), list(itertools.product(State, State)))
def test_every_report_is_judged(known: State, said: State) -> None:
    """ROL-16: nothing follows an end, and nothing goes back."""
    applied = execution.judge(known, Report(said, Proof(DIGEST, 1)), DIGEST).applied
    if known in ENDS or known is said:
        assert not applied
    elif said in FAILURES:
        assert applied


@pytest.mark.parametrize(
    "detail",
    [{}, {"attest": 7}, {"attest": {"digest": 3}}, {"shadow": {"n": -1, "disagree": True}}, {"latency_us": "fast"}],
)
def test_odd_details_count_as_not_said(detail: dict[str, object]) -> None:
    """ROL-17: what a device garbles proves nothing."""
    report = execution.read_report(State.SUCCEEDED, detail)
    assert not execution.judge(State.PROBATION, report, DIGEST).applied
    assert (report.shadow_n, report.shadow_disagree, report.latency_us) == (0, 0, None)
