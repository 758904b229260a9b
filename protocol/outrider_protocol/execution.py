"""The states of an execution: one device's part in a rollout.

1. The device alone moves an execution; the server records what the device reports.
2. Ends are final. `SUCCEEDED` means that the running worker attested the new digest,
   answered real inferences and lived through probation; nothing earlier may say it.
3. `RANK` grows along the way: a report of a lower rank arrived late and changes nothing.

>>> may_follow(State.DOWNLOADING, State.VERIFYING), may_follow(State.SUCCEEDED, State.DOWNLOADING)
(True, False)
"""

from __future__ import annotations

from enum import Enum, unique
from typing import Final


@unique
class State(Enum):
    """Where one execution stands."""

    QUEUED = "queued"
    NOTIFIED = "notified"
    AWAITING_CONSENT = "awaiting_consent"
    AWAITING_WINDOW = "awaiting_window"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    STAGED = "staged"
    VALIDATING = "validating"
    SHADOWING = "shadowing"
    ACTIVATING = "activating"
    PROBATION = "probation"
    SUCCEEDED = "succeeded"
    ALREADY_INSTALLED = "already_installed"
    NO_ARTIFACT = "no_artifact"
    REJECTED = "rejected"
    FAILED_UNCHANGED = "failed_unchanged"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    TIMED_OUT = "timed_out"
    CANCELED = "canceled"
    SUPERSEDED = "superseded"
    REMOVED = "removed"


WAY: Final = tuple(State)[: tuple(State).index(State.SUCCEEDED) + 1]
RANK: Final = {state: rank for rank, state in enumerate(WAY)}
ENDS: Final = frozenset(State) - frozenset(WAY[:-1])
FAILURES: Final = frozenset(
    {
        State.REJECTED,
        State.FAILED_UNCHANGED,
        State.ROLLED_BACK,
        State.ROLLBACK_FAILED,
        State.TIMED_OUT,
    }
)
# The new release serves, or has served, real requests in these.
TOUCHED: Final = frozenset(
    {
        State.ACTIVATING,
        State.PROBATION,
        State.SUCCEEDED,
        State.ROLLED_BACK,
        State.ROLLBACK_FAILED,
    }
)


def may_follow(earlier: State, later: State) -> bool:
    """Whether a report of `later` may be recorded when `earlier` is what is known."""
    if earlier in ENDS:
        return False
    return later in ENDS or RANK[later] >= RANK[earlier]
