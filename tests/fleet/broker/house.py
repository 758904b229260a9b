"""A broker with its authority and callout, and clients that behave or misbehave."""

import ssl
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
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from outrider_fleet.broker.callout import Callout
from outrider_fleet.broker.callout_thread import CalloutThread
from outrider_fleet.broker.link import BrokerLink, ClientTls
from outrider_fleet.broker.nats import EmbeddedBroker
from outrider_fleet.pki.ca import CertificateAuthority
from outrider_fleet.pki.csr import certificate_key_sha256


@dataclass
class House:
    """One running broker: authority, process, callout, admitted devices, and the server's credentials."""

    directory: Path
    ca: CertificateAuthority
    broker: EmbeddedBroker
    callout: Callout
    thread: CalloutThread
    admitted: set[str]
    keys: dict[str, str]
    fleet_tls: ClientTls

    def device_tls(self, device: str, ca: CertificateAuthority | None = None, days: float = 30) -> ClientTls:
        """Enrol `device` (anew, with a new key) and return its files."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        folder = self.directory / f"device-{device}-{time.monotonic_ns()}"
        folder.mkdir()
        pem = (ca or self.ca).issue_device(csr.public_bytes(Encoding.PEM).decode(), device, days)
        (folder / "device.pem").write_text(pem)
        (folder / "device.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.admitted.add(device)
        self.keys[device] = certificate_key_sha256(pem)
        return ClientTls(self.directory / "ca" / "ca.pem", folder / "device.pem", folder / "device.key")


@dataclass
class Client:
    """A paho client that records what happens to it."""

    client_id: str
    address: tuple[str, int]
    tls: ClientTls
    received: dict[str, bytes] = field(default_factory=dict)
    refused: threading.Event = field(default_factory=threading.Event)
    connected: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    granted: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mqtt = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            self.client_id,
            clean_session=True,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.tls.ca)
        if self.tls.certificate.exists():
            context.load_cert_chain(self.tls.certificate, self.tls.key)
        self.mqtt.tls_set_context(context)
        self.mqtt.on_connect = self._on_connect
        self.mqtt.on_disconnect = lambda *_: self.ended.set()
        self.mqtt.on_message = self._on_message
        self.mqtt.on_subscribe = self._on_subscribe

    def connect(self) -> bool:
        """Whether the broker let this client in (False: refused in the handshake or by the callout)."""
        try:
            self.mqtt.connect(*self.address, keepalive=10)
        except OSError:
            return False
        self.mqtt._reset_sockets(sockpair_only=True)  # paho leaves the pair of `connect` open in `loop_start`
        self.mqtt.loop_start()
        until(lambda: self.connected.is_set() or self.refused.is_set() or self.ended.is_set())
        return self.connected.is_set()

    def subscribe(self, topic: str) -> bool:
        """Whether the broker granted the filter."""
        before = len(self.granted)
        self.mqtt.subscribe(topic, qos=0)
        until(lambda: len(self.granted) > before or self.ended.is_set())
        return len(self.granted) > before and self.granted[-1] < 0x80

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Send at QoS 1 and wait for the PUBACK (which proves nothing)."""
        self.mqtt.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5)

    def wait_for(self, topic: str, timeout_s: float = 5) -> bytes | None:
        with self.arrived:
            self.arrived.wait_for(lambda: topic in self.received, timeout_s)
        return self.received.get(topic)

    def close(self) -> None:
        self.mqtt.disconnect()
        self.mqtt.loop_stop()
        self.mqtt._reset_sockets(sockpair_only=True)

    def _on_connect(self, _c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        (self.refused if reason.is_failure else self.connected).set()

    def _on_subscribe(self, _c: Any, _u: Any, _mid: int, reasons: list[Any], _p: Any) -> None:
        self.granted += [reason.value for reason in reasons]

    def _on_message(self, _c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
        with self.arrived:
            self.received[message.topic] = bytes(message.payload)
            self.arrived.notify_all()


def until(condition: Callable[[], bool], timeout_s: float = 10) -> bool:
    """Wait for a condition; returns whether it came true."""
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.005)
    return True


@dataclass
class Inbox:
    """The server's link and what it received."""

    link: BrokerLink
    messages: list[tuple[str, bytes]]

    def wait_for(self, topic: str, payload: bytes, timeout_s: float = 5) -> bool:
        return until(lambda: (topic, payload) in self.messages, timeout_s)
