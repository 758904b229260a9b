"""A small fleet for agent tests: a real broker with mutual TLS, signed metadata, a server that commits and acks."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from paho.mqtt.enums import CallbackAPIVersion
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from outrider_agent.durable import Durable
from outrider_agent.supervisor.state import StateFile
from outrider_agent.update import identity, trust_file
from outrider_protocol import director, ids, limits, manifest, signing, telemetry, topics, trust
from outrider_protocol.messages import Ack, Event, ExecutionReport, ReportedState, TrustOnline
from outrider_protocol.order import Audience, Order

FLEET = "test"
PROFILE = "x86-64"
DAY = dt.timedelta(days=1)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def until(look: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    """Wait until `look` returns something true, and return it."""
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        pause.wait(0.01)
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Authority:
    """A certificate authority, its server certificate and device certificates."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        builder = self._builder(self.name, self.key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.certificate = builder.sign(self.key, hashes.SHA256())
        (directory / "ca.pem").write_bytes(self.certificate.public_bytes(Encoding.PEM))
        self.issue("server", ExtendedKeyUsageOID.SERVER_AUTH)
        self.issue("_fleet", ExtendedKeyUsageOID.CLIENT_AUTH)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - DAY).not_valid_after(now + 30 * DAY)

    @property
    def certificate_pem(self) -> str:
        """Its own."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(self, name: str, usage: x509.ObjectIdentifier) -> ec.EllipticCurvePrivateKey:
        """Write `<name>.pem` and `<name>.key`."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = builder.add_extension(names, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        (self.directory / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.directory / f"{name}.key").write_bytes(pem)
        return key


class Broker:
    """nats-server with MQTT over mutual TLS."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        directory.mkdir()
        self.port, self.directory = free_port(), directory
        ca = authority.directory
        self.config = directory / "nats.conf"
        self.config.write_text(
            f"""
            server_name: t1
            listen: 127.0.0.1:{free_port()}
            max_payload: 1MB
            jetstream {{ store_dir: "{directory}/store" }}
            mqtt {{ host: 127.0.0.1, port: {self.port}
              tls {{ cert_file: "{ca}/server.pem", key_file: "{ca}/server.key",
                ca_file: "{ca}/ca.pem", verify: true }} }}
            """
        )
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        program = Path(sys.executable).with_name("nats-server")
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen([program, "-c", self.config], stdout=log, stderr=log)
        until(self._listens, "broker")

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Trust:
    """The fleet's TUF roles with one key each, root with `threshold` of `root_names`, and a director."""

    keys: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    epoch: int = 1
    roots: dict[int, bytes] = field(default_factory=dict)
    min_counter: dict[str, int] = field(default_factory=dict)
    targets: dict[str, TargetFile] = field(default_factory=dict)
    expires_s: float = 7 * 24 * 3600
    ends_s: dict[str, float] = field(default_factory=dict)  # of roles that end at another time
    root_names: tuple[str, ...] = ("root",)
    threshold: int = 1
    reset_time_floor: bool = False

    def __post_init__(self) -> None:
        names = (*self.root_names, "targets", "snapshot", "timestamp", "pipeline", "director")
        self.keys = {name: signing.generate() for name in names}
        self.new_root()

    @property
    def expires(self) -> dt.datetime:
        return self.end("")

    def end(self, role: str) -> dt.datetime:
        """When a role that is signed now expires."""
        seconds = self.ends_s.get(role, self.expires_s)
        return (dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=seconds)).replace(microsecond=0)

    def new_root(self) -> None:
        """Sign the next root with the current keys."""
        root = Root(version=len(self.roots) + 1, expires=self.end("root"), consistent_snapshot=False)
        for name in self.root_names:
            root.add_key(signing.tuf_key(self.keys[name]), "root")
        root.roles["root"].threshold = self.threshold
        for name in ("targets", "snapshot", "timestamp"):
            root.add_key(signing.tuf_key(self.keys[name]), name)
        self.roots[root.version] = signing.sign_role(root, [self.keys[name] for name in self.root_names])

    def release(self, path: str, encoded: bytes, counter: int) -> None:
        self.targets[path] = signing.artifact_target(path, encoded, counter)

    def director(self) -> director.Director:
        key = signing.public_bytes(self.keys["director"]).hex()
        return director.Director(FLEET, self.epoch, (key,), self.reset_time_floor)

    def messages(self, model: str = "har") -> dict[str, bytes]:
        """Topic → payload of the whole bundle, with every version raised."""
        self.version += 1
        files = {
            director.DIRECTOR_TARGET: self.director().encode(),
            director.FLOORS_TARGET: director.Floors(self.min_counter).encode(),
        }
        role = signing.sign_role(
            Targets(self.version, expires=self.expires, targets=self.targets), [self.keys["pipeline"]]
        )
        pipeline = signing.tuf_key(self.keys["pipeline"])
        delegated = DelegatedRole(model, [pipeline.keyid], 1, False, paths=[f"{model}/*/*"])
        top = Targets(
            self.version,
            expires=self.end("targets"),
            targets={name: TargetFile.from_data(name, data, ["sha256"]) for name, data in files.items()},
            delegations=Delegations({pipeline.keyid: pipeline}, {model: delegated}),
        )
        meta = {"targets.json": MetaFile(self.version), f"{model}.json": MetaFile(self.version)}
        snapshot = Snapshot(self.version, expires=self.expires, meta=meta)
        timestamp = Timestamp(self.version, expires=self.end("timestamp"), snapshot_meta=MetaFile(self.version))
        online = TrustOnline(
            len(self.roots),
            signing.sign_role(timestamp, [self.keys["timestamp"]]).decode(),
            signing.sign_role(snapshot, [self.keys["snapshot"]]).decode(),
            signing.sign_role(top, [self.keys["targets"]]).decode(),
            {name: data.decode() for name, data in files.items()},
        )
        roots = {topics.trust_root(number): data for number, data in self.roots.items()}
        return {**roots, topics.trust_model(model): role, topics.TRUST_ONLINE: online.encode()}

    def order(self, order: Order) -> bytes:
        return signing.sign_order(order, [self.keys["director"]])


class Server:
    """The fleet server's part: publishes retained messages, commits batches once, acks."""

    def __init__(self, authority: Authority, port: int) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.batches: dict[tuple[str, str, int], telemetry.Batch] = {}
        self.duplicates: list[tuple[str, str, int]] = []
        self.committed: dict[tuple[str, str, str], int] = {}
        self.acking = True
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, "_fleet", clean_session=True)
        self.client.tls_set_context(client_context(authority.directory, "_fleet"))
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe(topics.ALL_UP)
        self.client.on_message = self._message
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        until(self.client.is_connected, "server's connection")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def publish(self, messages: dict[str, bytes]) -> None:
        for topic, payload in messages.items():
            self.client.publish(topic, payload, qos=1, retain=True).wait_for_publish(10)

    def _message(self, _client: Any, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload)))
        device, leaf = topics.parse(message.topic)
        if leaf in {"bulk", "event"}:
            self._batch(device, telemetry.decode(bytes(message.payload)))

    def _batch(self, device: str, batch: telemetry.Batch) -> None:
        stream = (device, batch.outbox_id, batch.stream)
        last = self.committed.get(stream, 0)
        if batch.seq > last and batch.prev <= last and self.acking:
            self.batches[batch.outbox_id, batch.stream, batch.seq] = batch
            self.committed[stream] = batch.seq
        elif batch.seq <= last and (batch.outbox_id, batch.stream, batch.seq) not in self.batches:
            self.duplicates.append((batch.outbox_id, batch.stream, batch.seq))
        if self.acking:
            self.ack(device, Ack(batch.outbox_id, batch.stream, self.committed.get(stream, 0)))

    def ack(self, device: str, ack: Ack) -> None:
        self.client.publish(topics.ack(device), ack.encode(), qos=1)

    def reports(self) -> list[ExecutionReport]:
        """Every execution report that was committed, in order."""
        events = [telemetry.check_event(b) for (_, stream, _), b in sorted(self.batches.items()) if stream == "event"]
        return [ExecutionReport.read(event.body) for event in events if event.type == "execution"]

    def events(self) -> list[Event]:
        return [telemetry.check_event(b) for (_, stream, _), b in sorted(self.batches.items()) if stream == "event"]

    def states(self, seq: int) -> list[str]:
        """The states of one execution, in order."""
        return [report.state for report in self.reports() if report.seq == seq]

    def report(self, seq: int, state: str, epoch: int = 1) -> ExecutionReport | None:
        return next((r for r in self.reports() if (r.epoch, r.seq, r.state) == (epoch, seq, state)), None)

    def reported(self, device: str) -> ReportedState | None:
        payloads = [payload for topic, payload in self.messages if topic == topics.state(device)]
        return ReportedState.decode(payloads[-1]) if payloads else None


def client_context(directory: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(directory / "ca.pem"))
    context.load_cert_chain(str(directory / f"{name}.pem"), str(directory / f"{name}.key"))
    return context


class Agent:
    """One enrolled agent's home and its process."""

    def __init__(self, home: Path, device: str, authority: Authority, trust_roots: Trust, port: int) -> None:
        self.home, self.device = home, device
        key = authority.issue(device, ExtendedKeyUsageOID.CLIENT_AUTH)
        der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.identity = trust.Identity(device, hashlib.sha256(der).hexdigest(), FLEET, PROFILE)
        folder = home / "var" / "identity"
        folder.mkdir(parents=True)
        for name in ("pem", "key"):
            (folder / f"device.{name}").write_bytes((authority.directory / f"{device}.{name}").read_bytes())
        (folder / "device.key").chmod(0o600)
        (folder / "ca.pem").write_bytes((authority.directory / "ca.pem").read_bytes())
        (folder / "root.json").write_bytes(trust_roots.roots[1])
        trust_file.begin(home / "var" / "trust", trust_roots.roots[1], Durable())
        StateFile(home / "var" / "update.json", Durable()).begin()
        (folder / "identity.json").write_bytes(identity.encode(self.identity))
        (home / "etc").mkdir()
        (home / "etc" / "agent.toml").write_text(
            f'[device]\nid = "{device}"\nprofile = "{PROFILE}"\n[broker]\nhost = "127.0.0.1"\nport = {port}\n'
            "[telemetry]\nbatch_records = 10\nflush_s = 0.2\nack_timeout_s = 2.0\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.home / "run" / "har.sock"

    def start(self, **more: str) -> None:
        """Run it; `more` is added to its environment."""
        environment = {**os.environ, **ONE_THREAD, "OUTRIDER_HOME": str(self.home), **more}
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "outrider_agent.cli", "run"], env=environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """kill -9, and wait until its children have gone with it."""
        assert self.process is not None
        children = self.children()
        self.process.kill()
        self.process.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "children gone")

    def children(self) -> list[int]:
        assert self.process is not None
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def log(self) -> str:
        return (self.home / "log").read_text()

    def order(self, artifact: Artifact, seq: int, **changes: Any) -> Order:
        now_ms = time.time_ns() // 1_000_000
        values: dict[str, Any] = {
            "aud": Audience(self.device, self.identity.key_sha256),
            "fleet": FLEET,
            "epoch": 1,
            "seq": seq,
            "iat_ms": now_ms,
            "exp_ms": now_ms + limits.ORDER_LIFETIME_MS,
            "model": "har",
            "release": artifact.version,
            "counter": artifact.counter,
            "profile": PROFILE,
            "manifest": artifact.digest,
            "manifest_bytes": len(artifact.encoded),
            "parameters": {"probation_windows": 3},
        }
        return Order(**{**values, **changes})


@dataclass(frozen=True)
class Artifact:
    """An artifact directory as the kit wrote it, and what is published of it."""

    directory: Path
    version: str
    counter: int

    @property
    def encoded(self) -> bytes:
        return (self.directory / "manifest.json").read_bytes()

    @property
    def digest(self) -> str:
        return ids.digest_of(self.encoded)

    @property
    def path(self) -> str:
        return ids.target_path("har", self.version, PROFILE)

    def chunks(self) -> dict[str, bytes]:
        """Topic → payload of every chunk."""
        found = manifest.Manifest.decode(self.encoded)
        blobs = [(self.digest, self.encoded), (found.config.digest, (self.directory / "config.json").read_bytes())]
        blobs += [(layer.digest, (self.directory / layer.title).read_bytes()) for layer in found.device_layers()]
        return {
            topics.blob(ids.hex_of(digest), number): data[start : start + limits.CHUNK_BYTES]
            for digest, data in blobs
            for number, start in enumerate(range(0, len(data), limits.CHUNK_BYTES))
        }
