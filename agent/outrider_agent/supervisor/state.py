"""update.json: what this device runs, returns to, never goes below, and the execution it is in.

1. Replaced as a whole, atomically and durably, before anything is done because of it.
2. `current` is the last release that *succeeded*; `previous` the one before it; `candidate` is on trial.
3. Floors only rise (a new epoch resets the sequence: decided by `outrider_protocol.trust`, recorded here).
4. Enrolment writes the first file. One that is missing or cannot be read later stops updates, never inference: guessing
   what was trusted would be a way to roll it back. What served last stands in `serving.json` too, which nobody trusts:
   it says what to load, and the worker holds that against its digest.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from outrider_agent.durable import Durable
from outrider_agent.errors import StateError
from outrider_agent.supervisor.machine import Stage
from outrider_protocol import canonical, ids
from outrider_protocol.errors import ProtocolError
from outrider_protocol.fields import VERSION, Fields
from outrider_protocol.trust import Floors

STATE_BYTES: Final = 1024 * 1024
SERVING: Final = "serving.json"


@dataclass(frozen=True)
class Release:
    """One artifact of a release, as it lies under `artifacts/<hex of digest>`."""

    model: str
    release: str
    counter: int
    digest: str

    @property
    def hex(self) -> str:
        """The artifact directory's name."""
        return ids.hex_of(self.digest)

    @classmethod
    def read(cls, fields: Fields) -> Release:
        """Read the JSON form."""
        return cls(
            ids.model_name(fields.text("model")),
            ids.version(fields.text("release")),
            fields.integer("counter", low=1),
            ids.digest(fields.text("digest")),
        )


def read_floors(fields: Fields) -> Floors:
    """Read the JSON form of the last accepted order's floors."""
    return Floors(
        epoch=fields.integer("epoch"),
        seq=fields.integer("seq"),
        time_ms=fields.integer("time_ms"),
        payload_sha256=fields.text("payload_sha256", limit=64),
    )


@dataclass(frozen=True)
class Execution:
    """One accepted order and how far it has come; `envelope_sha256` recognises the retained message."""

    epoch: int
    seq: int
    target: Release
    stage: Stage
    envelope_sha256: str
    parameters: dict[str, float] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "stage": self.stage.value}

    @classmethod
    def read(cls, fields: Fields) -> Execution:
        """Read the JSON form."""
        return cls(
            fields.integer("epoch", low=1),
            fields.integer("seq", low=1),
            Release.read(fields.object("target")),
            Stage(fields.text("stage")),
            fields.text("envelope_sha256", limit=64),
            fields.numbers("parameters"),
            fields.raw("detail"),
        )


@dataclass(frozen=True)
class UpdateState:
    """Everything in update.json. `starts` counts the agent's starts: presence sessions grow with it."""

    current: Release | None = None
    previous: Release | None = None
    candidate: Release | None = None
    floors: Floors = field(default_factory=Floors)
    execution: Execution | None = None
    starts: int = 0

    def encode(self) -> bytes:
        """The file's bytes."""
        value = {**asdict(self), "v": VERSION, "execution": self.execution.json() if self.execution else None}
        return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> UpdateState:
        """Parse the file; raises `MalformedError`."""
        fields = Fields(canonical.decode(data, STATE_BYTES, "update.json"), "update.json")
        fields.versioned(frozenset({"v"}))
        execution = fields.optional_object("execution")
        return cls(
            current=_release(fields, "current"),
            previous=_release(fields, "previous"),
            candidate=_release(fields, "candidate"),
            floors=read_floors(fields.object("floors")),
            execution=Execution.read(execution) if execution else None,
            starts=fields.integer("starts"),
        )

    def promoted(self) -> UpdateState:
        """The candidate has succeeded."""
        if self.candidate is None:
            return self
        same = self.current is not None and self.current.digest == self.candidate.digest
        previous = self.previous if same else self.current
        return replace(self, current=self.candidate, previous=previous, candidate=None)

    def kept(self) -> set[str]:
        """The artifact directories that must stay."""
        return {release.hex for release in (self.current, self.previous, self.candidate) if release}


def _release(fields: Fields, name: str) -> Release | None:
    inner = fields.optional_object(name)
    return Release.read(inner) if inner else None


class StateFile:
    """Loads and replaces update.json, and `serving.json` beside it."""

    def __init__(self, path: Path, disk: Durable) -> None:
        self._path, self._disk = path, disk
        self._serving = path.with_name(SERVING)

    def begin(self) -> None:
        """Write the first file, as enrolment does."""
        self._disk.make_directory(self._path.parent)
        self.save(UpdateState())

    def load(self) -> UpdateState:
        """What was last saved; raises `StateError`."""
        self._disk.settle(self._path)
        try:
            return UpdateState.decode(self._path.read_bytes())
        except FileNotFoundError:
            raise StateError(f"{self._path} is missing") from None
        except (OSError, ProtocolError, ValueError) as error:
            raise StateError(f"{self._path}: {error}") from error

    def recall(self) -> Recalled:
        """What was last saved; where that is lost, what served last, with the error that stops updates."""
        try:
            return Recalled(self.load())
        except StateError as error:
            return Recalled(self._served(), error)

    def save(self, state: UpdateState) -> None:
        """Durable when it returns."""
        self._disk.write(self._path, state.encode())
        self.remember(state)

    def remember(self, state: UpdateState) -> None:
        """Note what serves, where it changed."""
        served = UpdateState(current=state.current, starts=state.starts)
        if served != self._served():
            self._disk.write(self._serving, served.encode())

    def _served(self) -> UpdateState:
        try:
            found = UpdateState.decode(self._serving.read_bytes())
        except (OSError, ProtocolError, ValueError):
            return UpdateState()
        return UpdateState(current=found.current, starts=found.starts)


@dataclass(frozen=True)
class Recalled:
    """What a start begins with; with `lost` nothing of it is trusted and nothing of it is saved to update.json."""

    state: UpdateState
    lost: StateError | None = None
