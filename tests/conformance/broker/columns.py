"""The brokers that the suite is held against, each behind the gate that the fleet server uses for it."""

from __future__ import annotations

import getpass
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from outrider_fleet.broker import mosquitto
from outrider_fleet.broker.callout import Callout
from outrider_fleet.broker.gate import EmbeddedGate, Gate
from outrider_fleet.broker.link import BrokerLink, ClientTls
from outrider_fleet.broker.mosquitto_files import CONFIG, Listener
from outrider_fleet.broker.nats import EmbeddedBroker
from outrider_fleet.broker.settings import ServerTls
from outrider_fleet.pki.ca import CertificateAuthority
from outrider_fleet.pki.csr import certificate_key_sha256
from outrider_fleet.pki.revocation import Revoked, serial_of
from tests.fleet.broker.house import Client, until

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


@dataclass
class Records:
    """What the fleet's store would hold: who is admitted with which key, and what was revoked."""

    keys: dict[str, str] = field(default_factory=dict)
    certificates: dict[str, str] = field(default_factory=dict)
    revoked: list[Revoked] = field(default_factory=list)

    def enrolled(self, device: str, pem: str) -> None:
        """A new key: the former one is revoked."""
        self.withdraw(device)
        self.keys[device], self.certificates[device] = certificate_key_sha256(pem), pem

    def withdraw(self, device: str) -> None:
        """No certificate of this device is good any more."""
        self.keys.pop(device, None)
        if device in self.certificates:
            self.revoked.append(Revoked(serial_of(self.certificates.pop(device)), time.time_ns() // 1_000_000))


@dataclass
class Column:
    """One running broker."""

    name: str
    directory: Path
    ca: CertificateAuthority
    gate: Gate
    records: Records
    fleet_tls: ClientTls
    restart: Callable[[], None]

    def certificate(self, device: str, ca: CertificateAuthority | None = None, days: float = 30) -> ClientTls:
        """Enrol `device` (anew, with a new key) and return its files."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        pem = (ca or self.ca).issue_device(csr.public_bytes(Encoding.PEM).decode(), device, days)
        folder = self.directory / f"{device}-{time.monotonic_ns()}"
        folder.mkdir()
        (folder / "device.pem").write_text(pem)
        (folder / "device.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        if ca is None:
            self.records.enrolled(device, pem)
            self.gate.allow(device)
        return ClientTls(self.fleet_tls.ca, folder / "device.pem", folder / "device.key")

    def client(self, claimed: str, tls: ClientTls) -> Client:
        """A client with this certificate that claims this client id."""
        return Client(claimed, self.gate.address, tls)


@contextmanager
def nats(directory: Path) -> Iterator[Column]:
    """The embedded broker with its callout."""
    ca, fleet_tls = _authority(directory)
    chain, key = ca.issue_server().write(directory, "server")
    broker = EmbeddedBroker(directory / "broker", ServerTls(chain, key, directory / "ca" / "ca.pem"))
    records = Records()
    callout = Callout(broker.nats_url, broker.credentials, records.keys.__contains__, key_of=records.keys.get)
    gate = EmbeddedGate(broker, callout, "127.0.0.1")

    def restart() -> None:
        before = broker.restarts
        broker.kill()
        assert until(lambda: broker.restarts > before)
        broker.wait_listening()

    gate.start()
    yield Column("nats", directory, ca, gate, records, fleet_tls, restart)
    gate.stop()


@contextmanager
def external(directory: Path) -> Iterator[Column]:
    """A mosquitto with the files of `broker-config mosquitto`."""
    ca, fleet_tls = _authority(directory)
    home, port = directory / "mosquitto", _free_port()
    mosquitto.write_files(
        home, ca, Listener("127.0.0.1", port, getpass.getuser()), mosquitto.Address("127.0.0.1", port, "127.0.0.1")
    )
    records = Records()
    gate = mosquitto.MosquittoGate(home, ca, lambda: records.revoked)
    with ExitStack() as stack:
        processes = [stack.enter_context(running(home, port))]

        def restart() -> None:
            processes[-1].kill()
            processes[-1].wait()
            processes.append(stack.enter_context(running(home, port)))

        gate.start()
        yield Column("mosquitto", directory, ca, gate, records, fleet_tls, restart)
        gate.stop()


@contextmanager
def running(home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A mosquitto on a directory of `write_files`."""
    assert MOSQUITTO is not None
    process = subprocess.Popen([MOSQUITTO, "-c", home / CONFIG], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: _accepts(port)), (home / "mosquitto.log").read_text()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(10)


def link(column: Column, heard: list[tuple[str, bytes]]) -> BrokerLink:
    """The fleet server's own connection."""
    made = BrokerLink(column.gate.address, column.fleet_tls, lambda topic, payload: heard.append((topic, payload)))
    made.start()
    return made


def _authority(directory: Path) -> tuple[CertificateAuthority, ClientTls]:
    ca = CertificateAuthority.create(directory / "ca", fleet="test")
    chain, key = ca.issue_fleet().write(directory, "fleet")
    return ca, ClientTls(directory / "ca" / "ca.pem", chain, key)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
