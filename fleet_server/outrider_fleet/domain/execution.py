"""What the server believes of a reported execution state.

1. States only move on along `outrider_protocol.execution`; what comes late or after an end changes nothing.
2. `succeeded` is recorded only with an attestation of the very digest that was ordered, and inferences answered.
3. `already_installed` likewise needs no new proof: the device runs what it ran.
4. Everything that was reported is kept as an event, applied or not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from outrider_protocol import limits
from outrider_protocol.execution import ENDS, FAILURES, State, may_follow

SERVER_ENDS: Final = frozenset({State.TIMED_OUT, State.CANCELED})


@dataclass(frozen=True)
class Proof:
    """What the running worker attested along with a report; `answered` inferences."""

    digest: str
    answered: int


@dataclass(frozen=True)
class Report:
    """One reported state; `shadow_n` windows compared, `shadow_disagree` of them differed."""

    state: State
    proof: Proof | None = None
    shadow_n: int = 0
    shadow_disagree: int = 0
    drifted: bool = False
    error: str | None = None
    hint: str | None = None
    latency_us: float | None = None


@dataclass(frozen=True)
class Acceptance:
    """Whether a report changes the record, and the reason where it does not."""

    applied: bool
    why: str = ""


def judge(known: State, report: Report, ordered_digest: str | None) -> Acceptance:
    """Decide on one report against what is known."""
    if known is report.state:
        return Acceptance(applied=False, why="said before")
    if not may_follow(known, report.state):
        return Acceptance(applied=False, why=f"{report.state.value} came after {known.value}")
    if report.state is State.SUCCEEDED and not _proven(report.proof, ordered_digest):
        return Acceptance(applied=False, why="succeeded without an attestation of the ordered digest")
    return Acceptance(applied=True)


def _proven(proof: Proof | None, digest: str | None) -> bool:
    return proof is not None and proof.digest == digest and proof.answered > 0


def read_report(state: State, detail: Mapping[str, Any]) -> Report:
    """Read the detail of an execution event; what is absent, of a wrong type or out of range counts as not said."""
    shadow, attest = _inner(detail, "shadow"), _inner(detail, "attest")
    return Report(
        state,
        _proof(attest),
        _count(shadow.get("n")),
        _count(shadow.get("disagree")),
        shadow.get("drifted") is True,
        _words(detail.get("error") or detail.get("reason")) if state in FAILURES else None,
        _words(detail.get("hint")) if state in FAILURES else None,
        _figure(detail.get("latency_us")),
    )


def _proof(attest: Mapping[str, Any]) -> Proof | None:
    digest = attest.get("digest")
    return Proof(digest, _count(attest.get("answered"))) if isinstance(digest, str) else None


def _inner(detail: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = detail.get(name)
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and _in_range(value) else 0


def _figure(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and _in_range(value) else None


def _in_range(value: float) -> bool:
    """Whether every reader and every column can hold it: JSON knows numbers of any length."""
    return not isinstance(value, bool) and 0 <= value <= limits.SEQ_MAX


def _words(value: object) -> str | None:
    return str(value)[:500] if value else None


def ended(state: State) -> bool:
    """Whether nothing can follow."""
    return state in ENDS
