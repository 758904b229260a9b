"""What one build decided for each profile: what the lock keeps and the report shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from outrider_compiler.candidate import NotBuilt
from outrider_compiler.choose import Choice
from outrider_compiler.errors import LockError
from outrider_compiler.figures import Figures


@dataclass(frozen=True)
class Outcome:
    """One profile. `choice` is None where no artifact was built, `why` says the reason; `manifest` is its digest.

    `refusals` by candidate where nothing that was measured may ship, which ends the build; else the choice has them.
    """

    profile: str
    engine: str
    figures: tuple[Figures, ...] = ()
    not_built: tuple[NotBuilt, ...] = ()
    choice: Choice | None = None
    why: str = ""
    manifest: str = ""
    warnings: tuple[str, ...] = field(default=())
    robustness: dict[str, Any] = field(default_factory=dict)
    refusals: dict[str, list[str]] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """As in `outrider.lock` and report.json."""
        choice = self.choice
        return {
            "engine": self.engine,
            "status": "built" if choice else "refused" if self.refusals else "not_built",
            "chosen": choice.chosen if choice else None,
            "reason": self.why,
            "manifest": self.manifest or None,
            "pareto": list(choice.front) if choice else [],
            "candidates": [self._candidate(item) for item in self.figures],
            "not_built": [vars(item) for item in self.not_built],
            "warnings": list(self.warnings),
            "robustness": self.robustness,
        }

    def _candidate(self, item: Figures) -> dict[str, Any]:
        refusals = (self.choice.refusals if self.choice else self.refusals).get(item.name, [])
        chosen = self.choice is not None and self.choice.chosen == item.name
        verdict = "chosen" if chosen else "refused" if refusals else "admitted"
        return {**item.json(), "verdict": verdict, "refusals": refusals}

    @classmethod
    def of(cls, profile: str, value: dict[str, Any]) -> Outcome:
        """Read the JSON form; raises `LockError`."""
        try:
            figures = tuple(Figures.of(item) for item in value["candidates"])
            refusals = {item["name"]: list(item["refusals"]) for item in value["candidates"]}
            chosen = value["chosen"]
            choice = Choice(chosen, value["reason"], refusals, tuple(value["pareto"])) if chosen else None
            return cls(
                profile=profile,
                engine=value["engine"],
                figures=figures,
                not_built=tuple(NotBuilt(item["name"], item["reason"]) for item in value["not_built"]),
                choice=choice,
                why=value["reason"],
                manifest=value["manifest"] or "",
                warnings=tuple(value["warnings"]),
                robustness=dict(value["robustness"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise LockError(f"the lock's entry of {profile} is damaged ({error})") from error
