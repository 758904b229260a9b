"""A claimed run, and where its files lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outrider_protocol import ids
from outrider_protocol.fields import Fields


@dataclass(frozen=True)
class Claim:
    """What the server wants trained. `fence` is repeated in every later call: an older one is refused."""

    run: str
    model: str
    base_version: str
    version: str
    counter: int
    fence: int
    snapshot: str

    @classmethod
    def read(cls, value: dict[str, Any]) -> "Claim":
        """Read the server's answer; raises `MalformedError`."""
        fields = Fields(value, "run")
        run = fields.value.get("id")
        return cls(
            run=ids.version(str(run) if isinstance(run, int) else fields.text("id")),  # it becomes a directory
            model=ids.model_name(fields.text("model")),
            base_version=fields.optional_text("base_version") or "",
            version=ids.version(fields.text("version")),
            counter=fields.integer("counter", low=1),
            fence=fields.integer("fence"),
            snapshot=ids.digest(fields.text("snapshot")),
        )


@dataclass(frozen=True)
class Workspace:
    """The files of one attempt at a run: a later attempt never meets the leftovers of an earlier one."""

    directory: Path

    @classmethod
    def of(cls, home: Path, claim: Claim) -> "Workspace":
        """Make the directory of this claim."""
        workspace = cls(home / "runs" / claim.run / str(claim.fence))
        workspace.out.mkdir(parents=True, exist_ok=True, mode=0o700)
        return workspace

    @property
    def snapshot(self) -> Path:
        """The dataset snapshot (SQLite)."""
        return self.directory / "snapshot.db"

    @property
    def out(self) -> Path:
        """What the training command writes."""
        return self.directory / "out"

    @property
    def provenance(self) -> Path:
        """run.json: what the release is made from."""
        return self.directory / "run.json"

    @property
    def release(self) -> Path:
        """The OCI layout that the compiler writes."""
        return self.directory / "release"

    @property
    def metadata(self) -> Path:
        """The role, newly signed."""
        return self.directory / "role.json"

    @property
    def current_metadata(self) -> Path:
        """The role as the server publishes it now."""
        return self.directory / "role.current.json"

    def log(self, step: str) -> Path:
        """The log of one step."""
        return self.directory / f"{step}.log"
