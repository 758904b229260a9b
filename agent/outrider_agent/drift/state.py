"""What the detector must keep through a restart, and its file.

Rules (docs/spec/drift.md):

- One file an artifact, `var/drift/<hex digest>.json`, written through `outrider_agent.durable`, with the SHA-256 of its
  content inside: a damaged file is never half believed.
- A damaged file is set aside as `<name>.corrupt`, never deleted, and the device starts a new baseline.
- A device that holds a file of another artifact of the same model has had a former release.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from outrider_agent.durable import Durable
from outrider_agent.errors import DurableError
from outrider_protocol import canonical, ids
from outrider_protocol.errors import ProtocolError
from outrider_protocol.fields import VERSION, Fields
from outrider_protocol.messages import PHASES

STATE_BYTES: Final = 16 * 1024 * 1024
CORRUPT: Final = ".corrupt"
Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class DriftState:
    """`windows` seen, predicted `klass` [n] of the baseline's, recent `confidence`, `evidence` [S][bets].

    While the baseline is collected `features` [n][F] are kept; when it is complete its `scores` [n][S] and the
    device's own `centres` (one [K][D] for each gaussian) stand for them.
    """

    model: str
    digest: str
    phase: str
    windows: int = 0
    names: tuple[str, ...] = ()
    features: Rows = ()
    scores: Rows = ()
    centres: tuple[Rows, ...] = ()
    klass: tuple[int, ...] = ()
    evidence: Rows = ()
    confidence: tuple[float, ...] = ()

    def encode(self) -> bytes:
        """The file's bytes."""
        content = canonical.encode({"v": VERSION, **asdict(self)})
        return canonical.encode(
            {"sha256": hashlib.sha256(content).hexdigest(), "state": canonical.decode(content, STATE_BYTES)}
        )

    @classmethod
    def decode(cls, data: bytes) -> DriftState:
        """Parse; raises a `ProtocolError` where the content is not what was written."""
        outer = Fields(canonical.decode(data, STATE_BYTES, "drift state"), "drift state")
        content = canonical.encode(outer.raw("state"))
        if hashlib.sha256(content).hexdigest() != outer.text("sha256"):
            raise ProtocolError("drift state: its SHA-256 does not match")
        fields = outer.object("state").versioned(frozenset(cls.__dataclass_fields__) | {"v"})
        return cls(
            ids.model_name(fields.text("model")),
            ids.digest(fields.text("digest")),
            _phase(fields),
            fields.integer("windows"),
            fields.texts("names"),
            _rows(fields.list("features")),
            _rows(fields.list("scores")),
            tuple(_rows(rows) for rows in fields.list("centres")),
            tuple(fields.list("klass")),
            _rows(fields.list("evidence")),
            tuple(fields.list("confidence")),
        )


def _phase(fields: Fields) -> str:
    phase = fields.text("phase")
    if phase not in PHASES:
        raise ProtocolError(f"drift state: phase {phase[:40]!r}")
    return phase


def _rows(rows: list[Any]) -> Rows:
    return tuple(tuple(row) for row in rows)


@dataclass(frozen=True)
class Restored:
    """What a worker starts from; `new` without an earlier file, `damaged` says why one was set aside."""

    state: DriftState
    damaged: str | None = None
    new: bool = False


class StateFiles:
    """The directory of state files (`var/drift`)."""

    def __init__(self, directory: Path, disk: Durable) -> None:
        self._directory, self._disk = directory, disk

    def restore(self, model: str, digest: str) -> Restored:
        """This artifact's state, or a fresh one: `rebaselining` where the device has had a former release."""
        path = self._path(digest)
        fresh = DriftState(model, digest, "rebaselining" if self._former(model, digest) else "baseline")
        try:
            return Restored(DriftState.decode(path.read_bytes()))
        except FileNotFoundError:
            return Restored(fresh, new=True)
        except (OSError, ProtocolError) as error:
            return Restored(replace(fresh, phase="rebaselining"), self._set_aside(path, str(error)), new=True)

    def save(self, state: DriftState) -> None:
        """Write durably; raises `DurableError`, the earlier file then stands."""
        self._disk.make_directory(self._directory)
        self._disk.write(self._path(state.digest), state.encode())

    def _path(self, digest: str) -> Path:
        return self._directory / f"{ids.hex_of(digest)}.json"

    def _set_aside(self, path: Path, reason: str) -> str:
        try:
            self._disk.rename(path, path.with_name(path.name + CORRUPT))
        except DurableError as error:
            return f"{reason}; it could not be set aside: {error}"
        return reason

    def _former(self, model: str, digest: str) -> bool:
        mine = self._path(digest).name
        return any(path.name != mine and _model_of(path) == model for path in self._directory.glob("*.json"))


def _model_of(path: Path) -> str | None:
    try:
        return DriftState.decode(path.read_bytes()).model
    except (OSError, ProtocolError):
        return None  # a damaged file of another artifact is that artifact's business
