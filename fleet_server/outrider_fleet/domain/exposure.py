"""Which devices are exposed next, and what the gates say of those that are. See `rollout` for the rules."""

from hashlib import sha256
from math import log10

from outrider_fleet.domain.gates import Gate, Judgement, Verdict, combine
from outrider_fleet.domain.rollout_state import Member, Rollout
from outrider_protocol.execution import FAILURES, State


def choose(rollout: Rollout) -> list[Member]:
    """The queued members, those first that shall be exposed first."""
    queued = [m for m in rollout.members.values() if m.state is State.QUEUED]
    shadows = rollout.plan.shadows

    def order(member: Member) -> tuple[bool, bool, int, bytes]:
        spread = sha256(f"{rollout.id}/{member.device}".encode()).digest()
        return shadows and member.drifted, not member.online, _decade(member) if shadows else 0, spread  # [ROL-4]

    return sorted(queued, key=order)


def _decade(member: Member) -> int:
    """How much speaks for drift, in powers of ten: less than that is chance."""
    return int(log10(max(member.evidence, 1.0)))


def judge(rollout: Rollout) -> Judgement:
    """What the gates say of everything seen so far."""
    exposed = [m for m in rollout.members.values() if m.exposed]
    final = all(m.ended for m in exposed)
    said = combine(_gate(gate, exposed, final=final) for gate in rollout.plan.gates)
    if said.verdict is Verdict.ADVANCE and not final and not _decided_early(rollout):
        pending = sum(not m.ended for m in exposed)
        return Judgement(Verdict.WAIT, f"{said.why}; {pending} executions have not ended")
    return said


def _decided_early(rollout: Rollout) -> bool:
    """A phase may be left before its last straggler when gates are set, but never the last phase."""
    return bool(rollout.plan.gates) and rollout.phase + 1 < len(rollout.plan.phases)


def _gate(gate: Gate, exposed: list[Member], *, final: bool) -> Judgement:
    if gate.name == "shadow":
        return _shadow_gate(gate, exposed, final=final)
    judged = [m for m in exposed if m.state in FAILURES or m.state is State.SUCCEEDED]
    if final and exposed and not judged:
        return Judgement(Verdict.ADVANCE, "failures: nothing to judge, no device had anything to install")
    return gate.judge(sum(m.state in FAILURES for m in judged), len(judged), final=final)


def _shadow_gate(gate: Gate, exposed: list[Member], *, final: bool) -> Judgement:
    voters = [m for m in exposed if not m.drifted]  # [ROL-5]
    if exposed and not voters:
        return Judgement(Verdict.WAIT, "shadow: every exposed device has drifted, none can vote")
    if final and all(m.state in (State.ALREADY_INSTALLED, State.NO_ARTIFACT) for m in voters):
        return Judgement(Verdict.ADVANCE, "shadow: nothing to judge, no device had anything to install")
    n, disagree = sum(m.shadow_n for m in voters), sum(m.shadow_disagree for m in voters)
    return gate.judge(disagree, n, final=final)
