"""The execution machine of a device: pure, the daemon's whole behaviour in one table.

1. `step` maps (stage, event) to the next stage and the effects, in order; every other pair is refused.
2. The runner makes the new stage durable *before* it performs an effect, so that a power cut resumes here:
   `RESTARTED` is the first event after every start.
3. Only `PROBATION_PASSED` leads to `SUCCEEDED`.
4. A candidate that began to serve is left behind by no end other than `SUCCEEDED`: `ROLLING_BACK` comes first.
5. An end accepts nothing.

    NOTIFIED → DOWNLOADING → VERIFYING → STAGED → VALIDATING ┬→ SHADOWING ┬→ ACTIVATING → PROBATION → SUCCEEDED
        └────────────┴────────────┴─────────┴─────────┴──────┴→ ends      └→ FAILED_UNCHANGED   └→ ROLLING_BACK → ends

>>> step(Stage.PROBATION, Event.PROBATION_PASSED)
(<Stage.SUCCEEDED: 'succeeded'>, (<Effect.PROMOTE: 'promote'>, <Effect.REPORT: 'report'>))
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, unique
from types import MappingProxyType
from typing import Final

from outrider_agent.errors import AgentError
from outrider_protocol.execution import State


@unique
class Stage(Enum):
    """Where one execution stands on the device; all but the two ROLLING_BACK are execution states by value."""

    NOTIFIED = "notified"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    STAGED = "staged"
    VALIDATING = "validating"
    SHADOWING = "shadowing"
    ACTIVATING = "activating"
    PROBATION = "probation"
    ROLLING_BACK = "rolling_back"
    ROLLING_BACK_SUPERSEDED = "rolling_back_superseded"
    SUCCEEDED = "succeeded"
    ALREADY_INSTALLED = "already_installed"
    NO_ARTIFACT = "no_artifact"
    REJECTED = "rejected"
    FAILED_UNCHANGED = "failed_unchanged"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    SUPERSEDED = "superseded"


@unique
class Event(Enum):
    """What can happen to an execution."""

    DOWNLOAD_BEGAN = "download_began"
    VERIFY_BEGAN = "verify_began"
    FILES_STAGED = "files_staged"
    VALIDATE_BEGAN = "validate_began"
    VALIDATED = "validated"
    VALIDATED_FOR_SHADOW = "validated_for_shadow"
    ALREADY_RUNS = "already_runs"
    NOTHING_LISTED = "nothing_listed"
    REFUSED = "refused"
    FAILED = "failed"
    SHADOW_AGREED = "shadow_agreed"
    SHADOW_DISAGREED = "shadow_disagreed"
    CANDIDATE_READY = "candidate_ready"
    CANDIDATE_FAILED = "candidate_failed"
    PROBATION_PASSED = "probation_passed"
    NO_TRAFFIC = "no_traffic"
    ROLLBACK_DONE = "rollback_done"
    ROLLBACK_IMPOSSIBLE = "rollback_impossible"
    SUPERSEDED = "superseded"
    RESTARTED = "restarted"


@unique
class Effect(Enum):
    """What the runner must do next."""

    REPORT = "report"
    AWAIT_ORDER = "await_order"  # the update process runs again once the retained order has arrived
    STOP_UPDATE = "stop_update"
    START_SHADOW = "start_shadow"
    STOP_SHADOW = "stop_shadow"
    START_CANDIDATE = "start_candidate"
    SWAP = "swap"  # the candidate accepts, the old worker drains and is held
    PROMOTE = "promote"  # the candidate becomes the current release, the held worker ends
    ROLL_BACK = "roll_back"  # the last succeeded release serves, the candidate ends
    DISCARD_CANDIDATE = "discard_candidate"


class IllegalTransitionError(AgentError):
    """An event arrived that this stage does not accept: a fault in the agent, never input."""


Transition = tuple[Stage, tuple[Effect, ...]]
S, E, F = Stage, Event, Effect

_FAIL: Final[Transition] = (S.FAILED_UNCHANGED, (F.DISCARD_CANDIDATE, F.REPORT))
_BACK: Final[Transition] = (S.ROLLING_BACK, (F.ROLL_BACK,))
_BACK_SUPERSEDED: Final[Transition] = (S.ROLLING_BACK_SUPERSEDED, (F.ROLL_BACK,))
_AGAIN: Final[Transition] = (S.DOWNLOADING, (F.AWAIT_ORDER, F.REPORT))
_FETCHING: Final = (S.NOTIFIED, S.DOWNLOADING, S.VERIFYING, S.STAGED, S.VALIDATING)


def _while_fetching() -> dict[tuple[Stage, Event], Transition]:
    """While the update process works, it says where it is; it may start over after a crash."""
    rows: dict[tuple[Stage, Event], Transition] = {}
    for stage in _FETCHING:
        rows |= {
            (stage, E.DOWNLOAD_BEGAN): (S.DOWNLOADING, (F.REPORT,)),
            (stage, E.ALREADY_RUNS): (S.ALREADY_INSTALLED, (F.REPORT,)),
            (stage, E.NOTHING_LISTED): (S.NO_ARTIFACT, (F.REPORT,)),
            (stage, E.REFUSED): (S.REJECTED, (F.DISCARD_CANDIDATE, F.REPORT)),
            (stage, E.FAILED): _FAIL,
            (stage, E.SUPERSEDED): (S.SUPERSEDED, (F.STOP_UPDATE, F.DISCARD_CANDIDATE, F.REPORT)),
            (stage, E.RESTARTED): _AGAIN,
        }
    return rows


def _ends() -> dict[tuple[Stage, Event], Transition]:
    """After a start an end is reported again: the report may have been cut off between the two writes."""
    return {(stage, E.RESTARTED): (stage, (F.REPORT,)) for stage in ENDS}


ENDS: Final = (
    frozenset(stage for stage in S if stage.value in {s.value for s in State})
    - frozenset(_FETCHING)
    - {
        S.SHADOWING,
        S.ACTIVATING,
        S.PROBATION,
    }
)

TABLE: Final[Mapping[tuple[Stage, Event], Transition]] = MappingProxyType(
    {
        **_while_fetching(),
        (S.DOWNLOADING, E.VERIFY_BEGAN): (S.VERIFYING, (F.REPORT,)),
        (S.VERIFYING, E.FILES_STAGED): (S.STAGED, (F.REPORT,)),
        (S.STAGED, E.VALIDATE_BEGAN): (S.VALIDATING, (F.REPORT,)),
        (S.VALIDATING, E.VALIDATE_BEGAN): (S.VALIDATING, (F.REPORT,)),  # again, with what was measured
        (S.VALIDATING, E.VALIDATED): (S.ACTIVATING, (F.REPORT, F.START_CANDIDATE)),
        (S.VALIDATING, E.VALIDATED_FOR_SHADOW): (S.SHADOWING, (F.REPORT, F.START_SHADOW)),
        (S.SHADOWING, E.SHADOW_AGREED): (S.ACTIVATING, (F.REPORT, F.STOP_SHADOW, F.START_CANDIDATE)),
        (S.SHADOWING, E.SHADOW_DISAGREED): (S.FAILED_UNCHANGED, (F.STOP_SHADOW, F.DISCARD_CANDIDATE, F.REPORT)),
        (S.SHADOWING, E.CANDIDATE_FAILED): (S.FAILED_UNCHANGED, (F.STOP_SHADOW, F.DISCARD_CANDIDATE, F.REPORT)),
        (S.SHADOWING, E.SUPERSEDED): (S.SUPERSEDED, (F.STOP_SHADOW, F.DISCARD_CANDIDATE, F.REPORT)),
        (S.SHADOWING, E.RESTARTED): (S.SHADOWING, (F.REPORT, F.START_SHADOW)),
        (S.ACTIVATING, E.CANDIDATE_READY): (S.PROBATION, (F.SWAP, F.REPORT)),
        (S.ACTIVATING, E.CANDIDATE_FAILED): _BACK,
        (S.ACTIVATING, E.SUPERSEDED): _BACK_SUPERSEDED,
        (S.ACTIVATING, E.RESTARTED): (S.ACTIVATING, (F.REPORT, F.START_CANDIDATE)),
        (S.PROBATION, E.PROBATION_PASSED): (S.SUCCEEDED, (F.PROMOTE, F.REPORT)),
        (S.PROBATION, E.NO_TRAFFIC): (S.PROBATION, (F.REPORT,)),
        (S.PROBATION, E.CANDIDATE_FAILED): _BACK,
        (S.PROBATION, E.SUPERSEDED): _BACK_SUPERSEDED,
        (S.PROBATION, E.RESTARTED): (S.ACTIVATING, (F.START_CANDIDATE,)),
        (S.ROLLING_BACK, E.ROLLBACK_DONE): (S.ROLLED_BACK, (F.DISCARD_CANDIDATE, F.REPORT)),
        (S.ROLLING_BACK, E.ROLLBACK_IMPOSSIBLE): (S.ROLLBACK_FAILED, (F.REPORT,)),
        (S.ROLLING_BACK, E.SUPERSEDED): (S.ROLLING_BACK_SUPERSEDED, ()),
        (S.ROLLING_BACK, E.RESTARTED): _BACK,
        (S.ROLLING_BACK_SUPERSEDED, E.ROLLBACK_DONE): (S.SUPERSEDED, (F.DISCARD_CANDIDATE, F.REPORT)),
        (S.ROLLING_BACK_SUPERSEDED, E.ROLLBACK_IMPOSSIBLE): (S.ROLLBACK_FAILED, (F.REPORT,)),
        (S.ROLLING_BACK_SUPERSEDED, E.RESTARTED): _BACK_SUPERSEDED,
        **_ends(),
    }
)


def step(stage: Stage, event: Event) -> Transition:
    """Return the next stage and its effects, or raise `IllegalTransitionError`."""
    try:
        return TABLE[stage, event]
    except KeyError:
        raise IllegalTransitionError(f"{stage.value} does not accept {event.value}") from None


def accepts(stage: Stage, event: Event) -> bool:
    """Whether the pair is in the table."""
    return (stage, event) in TABLE


def reported(stage: Stage) -> State:
    """The execution state that the server is told."""
    return State.PROBATION if stage in {S.ROLLING_BACK, S.ROLLING_BACK_SUPERSEDED} else State(stage.value)
