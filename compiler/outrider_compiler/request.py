"""What a build is asked for, and the limits of its gate. Frozen; nothing here reads a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from outrider_compiler.errors import UsageError
from outrider_protocol import ids
from outrider_protocol.errors import MalformedError

TASKS = ("classification",)


@dataclass(frozen=True)
class Gate:
    """What a candidate must reach, compared with the source model on the evaluation set.

    `accuracy_drop_max` is absolute (0.005 = half a point); `sqnr_min_db` is for every output; `latency_ratio_max`
    is the paired ratio to fp32 in the same load mode.
    """

    agreement_min: float = 0.98
    sqnr_min_db: float = 20.0
    accuracy_drop_max: float = 0.005
    balanced_drop_ratio_max: float = 0.01
    latency_ratio_max: float = 1.0


@dataclass(frozen=True)
class BuildRequest:
    """One build. `source` is a path or `module:callable`; `profiles` are names or paths of TOML files."""

    source: str
    name: str
    version: str
    counter: int
    profiles: tuple[str, ...]
    calibration: Path
    evaluation: Path
    out: Path
    task: str = "classification"
    architecture: str | None = None
    classes: tuple[str, ...] = ()
    embedding: str | None = None
    probabilities: str | None = None
    locked: Path | None = None
    provenance: Path | None = None
    gate: Gate = field(default_factory=Gate)

    def check(self) -> None:
        """Raise `UsageError` for what can be seen without reading a file."""
        try:
            ids.model_name(self.name)
            ids.version(self.version)
        except MalformedError as error:
            raise UsageError(str(error)) from error
        if self.counter < 1:
            raise UsageError(
                f"counter {self.counter}: a positive integer is needed, higher than every earlier release's"
            )
        if self.task not in TASKS:
            raise UsageError(f"task {self.task!r} is not one of {', '.join(TASKS)}")
        if not self.profiles:
            raise UsageError(
                "no profile given", "Name at least one with --profile; `outrider-compiler profiles` lists them."
            )
        if self.out.exists():
            raise UsageError(f"{self.out} exists already", "Name a new directory: a release is never changed in place.")
        if not self.out.absolute().parent.is_dir():
            raise UsageError(f"{self.out.absolute().parent} is not a directory")
