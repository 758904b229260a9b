"""The data of the rollout engine: state, events, effects. See `rollout` for the rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, unique
from typing import Final

from outrider_fleet.domain.execution import Report
from outrider_fleet.domain.gates import Verdict
from outrider_fleet.domain.plan import Phase, Plan
from outrider_protocol.execution import ENDS, State


@unique
class Status(Enum):
    """Where a rollout stands."""

    PROPOSED = "proposed"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"


OPEN: Final = frozenset({Status.PROPOSED, Status.RUNNING, Status.PAUSED})


@dataclass(frozen=True)
class Member:
    """One device's part. `evidence` is its detector's, in windows; `restored`: its former release was ordered again."""

    device: str
    state: State = State.QUEUED
    digest: str | None = None
    drifted: bool = False
    online: bool = True
    evidence: float = 0.0
    phase: int | None = None
    ordered_ms: int | None = None
    updated_ms: int | None = None
    shadow_n: int = 0
    shadow_disagree: int = 0
    error: str | None = None
    restored: bool = False
    restore_ended: bool = False

    @property
    def exposed(self) -> bool:
        """Whether it was ordered to run the release at least once."""
        return self.ordered_ms is not None

    @property
    def ended(self) -> bool:
        """Whether its execution has an end."""
        return self.state in ENDS

    @property
    def refused(self) -> bool:
        """Whether its shadow disagreed with the release, though nobody had found drift on it."""
        return self.error == "shadow_disagreement" and not self.drifted

    @property
    def pending(self) -> bool:
        """Exposed, and without an end."""
        return self.exposed and not self.ended


@dataclass(frozen=True)
class Rollout:
    """The whole state; `members` by device id."""

    id: str
    plan: Plan
    status: Status
    phase: int = 0
    phase_entered_ms: int | None = None
    members: Mapping[str, Member] = field(default_factory=dict)
    verdict: Verdict = Verdict.WAIT
    why: str = "not looked at yet"

    @property
    def exposed(self) -> int:
        """How many devices were ordered to run the release."""
        return sum(member.exposed for member in self.members.values())

    @property
    def current(self) -> Phase:
        """The phase it is in."""
        return self.plan.phases[self.phase]

    @property
    def bound(self) -> int:
        """How many devices may be exposed now."""
        return self.current.bound(len(self.members))


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True)
class Reported:
    """A device reported an execution state."""

    device: str
    report: Report


@dataclass(frozen=True)
class Joined:
    """Devices have come into the group."""

    members: tuple[Member, ...]


@dataclass(frozen=True)
class Restored:
    """The order that restores a device's former release has come to an end, or there was none to restore."""

    device: str


@unique
class Action(Enum):
    """What an operator (or a newer rollout) may do."""

    APPROVE = "approve"
    ADVANCE = "advance"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    SUPERSEDE = "supersede"
    ROLL_BACK = "rollback"


@dataclass(frozen=True)
class Acted:
    """An action with its reason."""

    action: Action
    reason: str = ""


Event = Tick | Reported | Joined | Restored | Acted


@dataclass(frozen=True)
class Expose:
    """Order the release for this device, as part of `phase`."""

    device: str
    phase: int


@dataclass(frozen=True)
class Restore:
    """Order the device's former release again."""

    device: str


@dataclass(frozen=True)
class Note:
    """Record and show that this happened."""

    kind: str
    text: str


@dataclass(frozen=True)
class Deviating:
    """This device's shadow refused a release that the others run: it sees other data than they do."""

    device: str
    text: str


Effect = Expose | Restore | Note | Deviating
Step = tuple[Rollout, tuple[Effect, ...]]


def with_members(rollout: Rollout, *changed: Member) -> Rollout:
    """Put changed members in place of the old ones."""
    if not changed:
        return rollout
    return replace(rollout, members={**rollout.members, **{member.device: member for member in changed}})
