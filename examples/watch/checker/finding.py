"""What a claim's check found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """One claim: whether it holds, the value found, the threshold, and lines for whoever wants to know more."""

    claim: str
    title: str
    ok: bool
    value: str
    threshold: str
    lines: tuple[str, ...] = field(default=())

    def text(self) -> str:
        """The lines that are printed."""
        first = (
            f"{self.claim:<4}{'ok  ' if self.ok else 'FAIL'} {self.title}: {self.value}   (demanded: {self.threshold})"
        )
        return "\n".join((first, *(f"         {line}" for line in self.lines)))
