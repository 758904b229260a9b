"""The control messages and the enrolment exchange: UTF-8 JSON with `v`.

1. Every message is a frozen dataclass with `encode` and `decode`; its limit stands in `limits`.
2. Unknown fields are ignored, unless `crit` lists them.
3. Times are int64 ms UTC; `clock_ok` says whether the sender believes its clock.

>>> Ack.decode(Ack("00112233aabbccdd", "bulk", 7).encode())
Ack(outbox_id='00112233aabbccdd', stream='bulk', seq=7, cleared=None)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from outrider_protocol import canonical, ids, limits
from outrider_protocol.director import DIRECTOR_TARGET, FLOORS_TARGET
from outrider_protocol.errors import MalformedError
from outrider_protocol.execution import State as ExecutionState
from outrider_protocol.fields import VERSION, Fields

STREAMS: Final = ("bulk", "event")
PHASES: Final = ("none", "baseline", "watching", "alarm", "rebaselining")
EVENT_TYPES: Final = ("execution", "drift", "agent")


def _write(message: Any) -> bytes:
    return canonical.encode({"v": VERSION, **asdict(message)})


def _read(kind: type[Any], data: bytes, limit_bytes: int) -> Fields:
    name = kind.__name__
    return Fields(canonical.decode(data, limit_bytes, name), name).versioned(
        frozenset(kind.__dataclass_fields__) | {"v"}
    )


def stream_name(value: str) -> str:
    """Return `value` if it is a stream, else raise `MalformedError`."""
    if value not in STREAMS:
        raise MalformedError(f"{value[:40]!r} is not a stream ({', '.join(STREAMS)})")
    return value


@dataclass(frozen=True)
class Presence:
    """Retained, and the last will: whether the device is connected. A lower session is ignored."""

    session: int
    online: bool

    def encode(self) -> bytes:
        """Canonical bytes."""
        return _write(self)

    @classmethod
    def decode(cls, data: bytes) -> Presence:
        """Parse; raises `MalformedError`."""
        fields = _read(cls, data, limits.CONTROL_BYTES)
        return cls(fields.integer("session"), fields.flag("online"))


@dataclass(frozen=True)
class Ack:
    """Server: everything of `stream` up to `seq` is committed. `cleared`: an artifact whose new baseline passed."""

    outbox_id: str
    stream: str
    seq: int
    cleared: str | None = None

    def encode(self) -> bytes:
        """Canonical bytes."""
        return _write(self)

    @classmethod
    def decode(cls, data: bytes) -> Ack:
        """Parse; raises `MalformedError`."""
        fields = _read(cls, data, limits.CONTROL_BYTES)
        return cls(
            ids.outbox_id(fields.text("outbox_id")),
            stream_name(fields.text("stream")),
            fields.integer("seq"),
            fields.optional_text("cleared"),
        )


@dataclass(frozen=True)
class Attestation:
    """What the running worker says of itself: the artifact, the model file it loaded, and how much it has answered."""

    digest: str
    model_sha256: str
    pid: int
    answered: int

    @classmethod
    def read(cls, fields: Fields) -> Attestation:
        """Read the nested object."""
        return cls(
            ids.digest(fields.text("digest")),
            fields.text("model_sha256", limit=64),
            fields.integer("pid"),
            fields.integer("answered"),
        )


@dataclass(frozen=True)
class ExecutionRef:
    """The execution a device is in, by the order's (epoch, seq)."""

    epoch: int
    seq: int
    state: str

    @classmethod
    def read(cls, fields: Fields) -> ExecutionRef:
        """Read the nested object."""
        return cls(fields.integer("epoch"), fields.integer("seq"), execution_state(fields.text("state")).value)


def execution_state(value: str) -> ExecutionState:
    """Return the execution state of that name; `MalformedError` if there is none."""
    try:
        return ExecutionState(value)
    except ValueError:
        raise MalformedError(f"{value[:40]!r} is not an execution state") from None


@dataclass(frozen=True)
class ReportedState:
    """Everything a device says of itself, as one last-value message. `outbox` counts rows waiting per stream."""

    session: int
    agent_version: str
    profile: str
    model: str | None
    version: str | None
    digest: str | None
    execution: ExecutionRef | None
    attest: Attestation | None
    phase: str
    floors: dict[str, int]
    outbox: dict[str, int]
    streams: dict[str, int]
    outbox_id: str
    at_ms: int
    clock_ok: bool

    def encode(self) -> bytes:
        """Canonical bytes."""
        return _write(self)

    @classmethod
    def decode(cls, data: bytes) -> ReportedState:
        """Parse; raises `MalformedError`."""
        fields = _read(cls, data, limits.CONTROL_BYTES)
        execution, attest = fields.optional_object("execution"), fields.optional_object("attest")
        phase = fields.text("phase")
        if phase not in PHASES:
            raise MalformedError(f"ReportedState.phase: {phase[:40]!r}")
        return cls(
            session=fields.integer("session"),
            agent_version=fields.text("agent_version", limit=64),
            profile=ids.profile_name(fields.text("profile")),
            model=fields.optional_text("model"),
            version=fields.optional_text("version"),
            digest=fields.optional_text("digest"),
            execution=ExecutionRef.read(execution) if execution else None,
            attest=Attestation.read(attest) if attest else None,
            phase=phase,
            floors=fields.integers("floors"),
            outbox=fields.integers("outbox"),
            streams=fields.integers("streams"),
            outbox_id=ids.outbox_id(fields.text("outbox_id")),
            at_ms=fields.integer("at_ms"),
            clock_ok=fields.flag("clock_ok"),
        )


@dataclass(frozen=True)
class Event:
    """One entry of the event stream; `body` depends on `type` (see docs/spec/protocol.md)."""

    type: str
    at_ms: int
    clock_ok: bool
    body: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Canonical bytes."""
        return _write(self)

    @classmethod
    def decode(cls, data: bytes) -> Event:
        """Parse; raises `MalformedError`."""
        fields = _read(cls, data, limits.CONTROL_BYTES)
        kind = fields.text("type")
        if kind not in EVENT_TYPES:
            raise MalformedError(f"Event.type: {kind[:40]!r}")
        return cls(kind, fields.integer("at_ms"), fields.flag("clock_ok"), fields.raw("body"))


@dataclass(frozen=True)
class ExecutionReport:
    """Body of an `execution` event: the state that an execution has entered."""

    epoch: int
    seq: int
    model: str
    release: str
    digest: str
    state: str
    detail: dict[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return asdict(self)

    @classmethod
    def read(cls, body: dict[str, Any]) -> ExecutionReport:
        """Read an event's body; raises `MalformedError`."""
        fields = Fields(body, "ExecutionReport")
        return cls(
            fields.integer("epoch"),
            fields.integer("seq"),
            ids.model_name(fields.text("model")),
            ids.version(fields.text("release")),
            ids.digest(fields.text("digest")),
            execution_state(fields.text("state")).value,
            fields.raw("detail"),
        )


@dataclass(frozen=True)
class DriftReport:
    """Body of a `drift` event. `phase` is the phase entered; `estimated_accuracy` informs, it decides nothing."""

    model: str
    digest: str
    phase: str
    window_index: int
    baseline_n: int
    score: float
    estimated_accuracy: float | None
    top: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {**asdict(self), "top": list(self.top)}

    @classmethod
    def read(cls, body: dict[str, Any]) -> DriftReport:
        """Read an event's body; raises `MalformedError`."""
        fields = Fields(body, "DriftReport")
        phase = fields.text("phase")
        if phase not in PHASES:
            raise MalformedError(f"DriftReport.phase: {phase[:40]!r}")
        estimate = None if fields.value.get("estimated_accuracy") is None else fields.number("estimated_accuracy")
        return cls(
            ids.model_name(fields.text("model")),
            ids.digest(fields.text("digest")),
            phase,
            fields.integer("window_index"),
            fields.integer("baseline_n"),
            fields.number("score"),
            estimate,
            fields.texts("top"),
        )


@dataclass(frozen=True)
class TrustOnline:
    """Retained: the TUF metadata that changes often, and the two fleet files; each value is the file's own text."""

    root_version: int
    timestamp: str
    snapshot: str
    targets: str
    files: dict[str, str]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return _write(self)

    @classmethod
    def decode(cls, data: bytes) -> TrustOnline:
        """Parse; nothing in it is trusted yet."""
        fields = _read(cls, data, limits.TRUST_ONLINE_BYTES)
        files, limit = fields.object("files"), limits.TRUST_ONLINE_BYTES
        return cls(
            fields.integer("root_version", low=1),
            fields.text("timestamp", limit=limit),
            fields.text("snapshot", limit=limit),
            fields.text("targets", limit=limit),
            {name: files.text(name, limit=limits.DIRECTOR_BYTES) for name in (DIRECTOR_TARGET, FLOORS_TARGET)},
        )


@dataclass(frozen=True)
class EnrolRequest:
    """A device asks to join: its own key stays on it, only the signing request travels."""

    token: str
    device: str
    profile: str
    csr_pem: str
    facts: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Canonical bytes."""
        return _write(self)

    @classmethod
    def decode(cls, data: bytes) -> EnrolRequest:
        """Parse; raises `MalformedError`."""
        fields = _read(cls, data, limits.ENROL_BYTES)
        return cls(
            fields.text("token"),
            ids.device_id(fields.text("device")),
            ids.profile_name(fields.text("profile")),
            fields.text("csr_pem", limit=16384),
            fields.raw("facts"),
        )


@dataclass(frozen=True)
class EnrolResponse:
    """What a device needs to connect; `root` is TUF root metadata, believed only against `--trust-root`."""

    device: str
    fleet: str
    certificate_pem: str
    ca_pem: str
    broker_host: str
    broker_port: int
    root: str

    def encode(self) -> bytes:
        """Canonical bytes."""
        return _write(self)

    @classmethod
    def decode(cls, data: bytes) -> EnrolResponse:
        """Parse; raises `MalformedError`."""
        fields = _read(cls, data, 2 * limits.ROOT_BYTES)
        return cls(
            ids.device_id(fields.text("device")),
            fields.text("fleet"),
            fields.text("certificate_pem", limit=16384),
            fields.text("ca_pem", limit=32768),
            fields.text("broker_host", limit=255),
            fields.integer("broker_port", low=1, high=65535),
            fields.text("root", limit=limits.ROOT_BYTES),
        )


RENEWAL_STATES: Final = ("issued", "waiting", "refused")


@dataclass(frozen=True)
class RenewRequest:
    """A device asks for its next certificate: the request is signed with the key that it enrolled with."""

    device: str
    csr_pem: str

    def encode(self) -> bytes:
        """Canonical bytes."""
        return _write(self)

    @classmethod
    def decode(cls, data: bytes) -> RenewRequest:
        """Parse; raises `MalformedError`."""
        fields = _read(cls, data, limits.ENROL_BYTES)
        return cls(ids.device_id(fields.text("device")), fields.text("csr_pem", limit=16384))


@dataclass(frozen=True)
class Renewal:
    """The answer: `issued` with a certificate, `waiting` for an operator, or `refused`; `why` is a sentence."""

    state: str
    certificate_pem: str = ""
    why: str = ""

    def encode(self) -> bytes:
        """Canonical bytes."""
        return _write(self)

    @classmethod
    def decode(cls, data: bytes) -> Renewal:
        """Parse; raises `MalformedError`."""
        fields = _read(cls, data, limits.ENROL_BYTES)
        state = fields.text("state")
        if state not in RENEWAL_STATES:
            raise MalformedError(f"Renewal.state: {state[:40]!r}")
        return cls(state, fields.text("certificate_pem", limit=16384), fields.text("why"))
