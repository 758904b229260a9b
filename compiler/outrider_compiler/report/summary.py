"""A build as its summaries (JUnit, Markdown) tell it: a finished one from its report, a failed one from what it told.

1. A failed build leaves no release, and yet a pipeline shows what was measured: an onlooker keeps the outcomes.
2. A profile that the build did not come to is named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from outrider_compiler.errors import CompilerError, UsageError
from outrider_compiler.outcome import Outcome
from outrider_compiler.progress import Progress
from outrider_compiler.request import BuildRequest

Json = dict[str, Any]


@dataclass(frozen=True)
class Summary:
    """`profiles` as in report.json; `error` as `CompilerError.json`, None where the release exists."""

    model: str
    version: str
    profiles: dict[str, Json]
    unreached: tuple[str, ...] = ()
    error: Json | None = None

    @classmethod
    def of_release(cls, report: Json) -> Summary:
        """Of a finished build."""
        return cls(report["request"]["model"], report["request"]["version"], report["profiles"])

    @classmethod
    def of_failure(cls, request: BuildRequest, outcomes: list[Outcome], error: CompilerError) -> Summary:
        """Of a build that ended with an error, after it had told some outcomes."""
        from outrider_compiler.pipeline import load_profiles
        from outrider_compiler.report import content

        try:
            boards = {profile.name: content.board(profile) for profile in load_profiles(request.profiles)}
        except UsageError:
            boards = {}
        gate = dict(vars(request.judging))
        told = {item.profile: content.decided(item, gate, boards[item.profile]) for item in outcomes}
        unreached = tuple(name for name in boards or request.profiles if name not in told)
        return cls(request.name, request.version, told, unreached, error.json())


@dataclass
class Memory:
    """An onlooker that keeps outcomes, and passes on to another one."""

    to: Progress
    outcomes: list[Outcome] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Pass it on."""
        self.to.say(text)

    def step(self, done: int, total: int) -> None:
        """Pass it on."""
        self.to.step(done, total)

    def outcome(self, outcome: Outcome) -> None:
        """Keep it, and pass it on."""
        self.outcomes.append(outcome)
        self.to.outcome(outcome)
