"""A fleet server without processes: real store, real trust, real signer; a recorder in place of the broker."""

from __future__ import annotations

import datetime as dt
import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from outrider_fleet.app import blobs, enrol, incoming, ingest, publish_release, tokens
from outrider_fleet.app.fleet import Fleet
from outrider_fleet.app.incoming import Incoming
from outrider_fleet.app.publish_release import Upload
from outrider_fleet.config import FleetConfig, Home
from outrider_fleet.pki.ca import CertificateAuthority
from outrider_fleet.signing import ceremony
from outrider_fleet.signing.client import SignerClient
from outrider_fleet.signing.offline import Offline
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.signing.server import Signer
from outrider_fleet.store.database import open_database
from outrider_protocol import dsse, ids, limits, manifest, signing, telemetry, topics
from outrider_protocol.manifest import Config, Index, Manifest, Role, TensorSpec
from outrider_protocol.messages import (
    Ack,
    Attestation,
    DriftReport,
    EnrolRequest,
    Event,
    ExecutionReport,
    Presence,
    ReportedState,
)
from outrider_protocol.order import Order
from outrider_protocol.statistics import ReferenceStatistics

OUTBOX = "00112233aabbccdd"
CLASSES = ("rest", "walk", "run")
PROFILE = "x86-64"


class LocalSigner(SignerClient):
    """The signer's own rules and keys, without its process."""

    def __init__(self, signer: Signer) -> None:
        super().__init__(Path("unused"))
        self.signer = signer

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        return self.signer.handle(request)


@dataclass
class Recorder:
    """What was sent to the broker."""

    sent: list[tuple[str, bytes, bool]] = field(default_factory=list)
    blobs: list[str] = field(default_factory=list)

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> object:
        self.sent.append((topic, payload, retain))
        return None

    def publish_blob(self, hex_digest: str, file: Path) -> None:
        assert file.exists()
        self.blobs.append(hex_digest)

    def lost_blobs(self, sizes: dict[str, int]) -> set[str]:
        return set(sizes) - set(self.blobs)

    def retained(self) -> dict[str, bytes]:
        """Topic → last retained payload."""
        return {topic: payload for topic, payload, retain in self.sent if retain}

    def acks(self, device: str) -> list[Ack]:
        return [Ack.decode(payload) for topic, payload, _ in self.sent if topic == topics.ack(device)]


@dataclass
class Clock:
    """Milliseconds that move only when told."""

    now_ms: int

    def __call__(self) -> int:
        return self.now_ms

    def pass_s(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)


@dataclass
class Release:
    """A release as a pipeline would upload it."""

    blobs: dict[str, bytes]
    index: bytes
    metadata: bytes
    artifact: str


class House:
    """One fleet and its devices."""

    def __init__(self, directory: Path, earlier: House | None = None) -> None:
        self.directory = directory
        self.home, self.offline = Home(directory / "home"), Offline(directory / "offline")
        self.pipeline = directory / "pipeline.pem"
        if earlier is None:
            self._found()
        else:
            shutil.copytree(earlier.directory, directory, dirs_exist_ok=True)
        self.authority = CertificateAuthority.load(self.home.ca)
        self.clock = Clock(int(dt.datetime.now(dt.UTC).timestamp() * 1000))
        self.signer = Signer(self.home.path)
        self.broker = Recorder(list(earlier.broker.sent) if earlier else [])
        self.seqs: dict[tuple[str, str], int] = dict(earlier.seqs) if earlier else {}
        self.starts = earlier.starts + 1 if earlier else 1
        self.fleet = self.compose(self.starts)

    def _found(self) -> None:
        self.home.blobs.mkdir(parents=True)
        CertificateAuthority.create(self.home.ca, fleet="test")
        ceremony.init_trust(self.home.path, self.offline, fleet="test")
        ceremony.delegate(self.home.path, self.offline, "har", ceremony.make_pipeline_key(self.pipeline))

    def compose(self, starts: int) -> Fleet:
        """A server on this home, as after `starts` starts."""
        fleet = Fleet(
            home=self.home,
            config=FleetConfig(name="test"),
            database=open_database(f"sqlite:///{self.home.database}"),
            signer=LocalSigner(self.signer),
            authority=self.authority,
            clock_ms=self.clock,
            random_hex=_counting(starts),
            sequences=itertools.count(starts * 1_000_000 + 1),
            broker_address=lambda: ("127.0.0.1", 8883),
        )
        fleet.publisher = self.broker
        return fleet

    def restart(self) -> None:
        """Forget everything that is not on disk."""
        self.fleet.database.close()
        self.signer.journal.close()
        self.signer = Signer(self.home.path)
        self.starts += 1
        self.fleet = self.compose(self.starts)

    def close(self) -> None:
        self.fleet.database.close()
        self.signer.journal.close()

    # ---------------------------------------------------------------- rows

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """Read as an outsider would."""
        with self.fleet.look() as connection:
            found = connection.exec_driver_sql(query, tuple(values)).mappings()
            return [dict(row) for row in found]

    def value(self, query: str, *values: object) -> Any:
        found = self.rows(query, *values)
        return next(iter(found[0].values())) if found else None

    # ---------------------------------------------------------------- devices

    def enrol(self, *names: str, profile: str = PROFILE) -> None:
        for name in names:
            token = tokens.create(self.fleet, "device", "")
            enrol.enrol(self.fleet, EnrolRequest(token, name, profile, csr()))
            self.say(name, "presence", Presence(1, online=True).encode())

    def say(self, device: str, leaf: str, payload: bytes) -> None:
        """A message of a device arrives."""
        message = incoming.parse(topics.up(device, leaf), payload)
        assert message is not None
        if self._held is None:
            ingest.commit(self.fleet, [message])
        else:
            self._held.append(message)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What arrives meanwhile is committed in one transaction."""
        self._held, held = [], self._held
        yield
        messages, self._held = self._held, held
        ingest.commit(self.fleet, messages)

    _held: list[Incoming] | None = None

    def batch(self, device: str, stream: str, body: bytes, *, seq: int | None = None, prev: int | None = None) -> int:
        """The next batch of a stream arrives; returns its sequence."""
        last = self.seqs.get((device, stream), 0)
        number = last + 1 if seq is None else seq
        self.seqs[device, stream] = max(last, number)
        data = telemetry.wrap(OUTBOX, stream, number, number - 1 if prev is None else prev, body)
        self.say(device, stream, data)
        return number

    def event(self, device: str, kind: str, body: dict[str, Any]) -> int:
        event = Event(kind, self.clock.now_ms, clock_ok=True, body=body)
        return self.batch(device, "event", telemetry.event_body(event))

    def order(self, device: str) -> Order | None:
        """The retained desired state."""
        payload = self.broker.retained().get(topics.desired(device))
        return Order.decode(dsse.Envelope.decode(payload, limits.ORDER_BYTES).payload) if payload else None

    def report(self, device: str, state: str, **detail: Any) -> None:
        """The device reports on its present order."""
        order = self.order(device)
        assert order is not None
        said = ExecutionReport(order.epoch, order.seq, order.model, order.release, order.manifest, state, detail)
        self.event(device, "execution", said.body())

    def succeed(self, device: str, answered: int = 12, phase: str = "baseline") -> None:
        """The device lives through the whole execution of its present order."""
        order = self.order(device)
        assert order is not None
        attest = {"digest": order.manifest, "model_sha256": "ab" * 32, "pid": 7, "answered": answered}
        with self.together():
            for state in ("downloading", "verifying", "staged", "validating", "activating", "probation"):
                self.report(device, state)
            self.report(device, "succeeded", attest=attest)
            self.state(device, digest=order.manifest, version=order.release, phase=phase)

    def state(self, device: str, *, digest: str, version: str, phase: str, **changes: Any) -> None:
        """The device says what it runs and in which phase its drift is."""
        values: dict[str, Any] = {
            "session": 1,
            "agent_version": "0.1.0",
            "profile": PROFILE,
            "model": "har",
            "version": version,
            "digest": digest,
            "execution": None,
            "attest": Attestation(digest, "ab" * 32, 7, 30),
            "phase": phase,
            "floors": {"epoch": 1, "seq": 0},
            "outbox": {"bulk": 0, "event": 0},
            "streams": {},
            "outbox_id": OUTBOX,
            "at_ms": self.clock.now_ms,
            "clock_ok": True,
        }
        self.say(device, "state", ReportedState(**{**values, **changes}).encode())

    def alarm(self, device: str, digest: str, estimated: float | None = 0.4) -> None:
        said = DriftReport("har", digest, "alarm", 140, 115, 30.0, estimated, ("embedding",))
        self.event(device, "drift", said.body())
        self.state(device, digest=digest, version=self.version_of(digest), phase="alarm")

    def version_of(self, digest: str) -> str:
        return str(self.value("SELECT version FROM artifacts WHERE digest = ?", digest))

    # ---------------------------------------------------------------- telemetry

    def predict(self, device: str, digest: str, klasses: list[int], confidence: float = 0.9) -> list[str]:
        """A batch of predictions arrives; returns their ids."""
        n = len(klasses)
        columns = {
            "at_ms": ("i8", b"".join((self.clock.now_ms).to_bytes(8, "little") for _ in range(n))),
            "klass": ("i2", b"".join(klass.to_bytes(2, "little") for klass in klasses)),
            "confidence": ("f4", floats([confidence] * n)),
        }
        meta = {"model": "har", "version": "1.0", "digest": digest, "n": n}
        seq = self.batch(device, "bulk", telemetry.encode_body("predictions", meta, columns))
        return [f"{device}/{OUTBOX}/{seq}/{index}" for index in range(n)]

    def windows(self, device: str, digest: str, evidence: float) -> None:
        """Statistics of some windows arrive, with the detector's evidence after them."""
        meta = {"model": "har", "digest": digest, "n": 4, "evidence": evidence}
        columns = {"counts": ("u4", bytes(16)), "class_counts": ("u4", bytes(12))}
        self.batch(device, "bulk", telemetry.encode_body("windows", meta, columns))

    def sample(self, device: str, digest: str, predictions: list[str]) -> None:
        """The windows of these predictions arrive."""
        n = len(predictions)
        meta = {
            "model": "har",
            "version": "1.0",
            "digest": digest,
            "shape": [2, 2],
            "dtype": "f4",
            "prediction_ids": predictions,
            "reason": ["control"] * n,
        }
        body = telemetry.encode_body("samples", meta, {"x": ("f4", floats([float(i) for i in range(4 * n)]))})
        self.batch(device, "bulk", body)

    # ---------------------------------------------------------------- releases

    def make(
        self, version: str, counter: int, *, title: str = "model.onnx", change: Callable[[Config], Config] | None = None
    ) -> Release:
        """Build and sign a release for one profile."""
        return make_release(self, version, counter, title=title, change=change)

    def publish(self, version: str, counter: int, provenance: dict[str, Any] | None = None) -> str:
        """Upload and publish a release; returns its artifact's digest."""
        made = self.make(version, counter)
        self.upload(made)
        upload = Upload(made.metadata.decode(), made.index.decode(), provenance or {})
        publish_release.publish(self.fleet, upload, "runner:r1" if upload.provenance else "pipeline:test")
        return made.artifact

    def upload(self, release: Release) -> None:
        for digest, data in release.blobs.items():
            blobs.put(self.fleet, digest, data)


def floats(values: list[float]) -> bytes:
    import struct

    return struct.pack(f"<{len(values)}f", *values)


def csr() -> str:
    """A signing request with a new key."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def make_release(
    house: House,
    version: str,
    counter: int,
    *,
    title: str = "model.onnx",
    change: Callable[[Config], Config] | None = None,
) -> Release:
    """A release of the model `har` for `x86-64`, its role signed on top of what is published."""
    spec = TensorSpec("x", "float32", (-1, 2, 2))
    out = TensorSpec("probabilities", "float32", (-1, 3))
    config = Config("har", version, counter, PROFILE, "onnxruntime", "fp32", (spec,), (out,), "probabilities", CLASSES)
    config_bytes = (change(config) if change else config).encode()
    model = f"weights of {version}".encode()
    reference = ReferenceStatistics(CLASSES, 300, (100, 100, 100), (), None, None, {}, accuracy=0.85).encode()
    layers = (
        manifest.device_layer(Role.MODEL, "model.onnx", model),
        manifest.device_layer(Role.STATISTICS, "statistics.json", reference),
    )
    described = manifest.Descriptor(manifest.CONFIG_TYPE, ids.digest_of(config_bytes), len(config_bytes))
    packed = Manifest(described, layers, {}).encode().replace(b'"model.onnx"', f'"{title}"'.encode())
    descriptor = manifest.artifact_descriptor(packed, PROFILE)
    index = Index("har", version, counter, {PROFILE: descriptor}).encode()
    target = signing.artifact_target(f"har/{version}/{PROFILE}", packed, counter)
    current = TrustRepository(house.home.trust).model_metadata("har")
    expires = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=30)
    metadata = signing.add_targets(current, [target], expires, [signing.load_private(house.pipeline)])
    stored = {ids.digest_of(data): data for data in (config_bytes, model, reference, packed)}
    return Release(stored, index, metadata, descriptor.digest)


def _counting(start: int) -> Callable[[int], str]:
    numbers = itertools.count(start * 1_000_000)
    return lambda n: f"{next(numbers):0{2 * n}x}"[-2 * n :]


CANARY = {
    "phases": [{"name": "canary", "max_devices": 2}, {"name": "all", "percent": 100}],
    "gates": {
        "failures": {"max_ratio": 0.2, "min_sample": 2},
        "shadow": {"max_ratio": 0.3, "min_sample": 20},
    },
    "parameters": {"shadow_windows": 20},
}
ALL = {"phases": [{"name": "all", "percent": 100}]}
