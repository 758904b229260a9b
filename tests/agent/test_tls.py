"""Certificate times and a wrong clock, against real TLS servers and a real broker. Rules: docs/spec/enrolment.md."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider_agent.clock import BUILD_MS, Now
from outrider_agent.config import Broker as Address
from outrider_agent.supervisor.broker_link import BrokerLink, Connected, Credentials, Lost
from outrider_agent.tls import CertificateTimeError, client_context
from tests.agent.supervisor.house import until
from tests.agent.supervisor.world import World

DAY_MS = 86_400_000
YEAR_MS = 365 * DAY_MS
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
Times = tuple[int, int]


class Server:
    """One TLS server: a certificate of these times by a CA of these times; it keeps what clients send."""

    def __init__(
        self, directory: Path, leaf: Times, ca: Times, host: str = "127.0.0.1", *, client: bool = False
    ) -> None:
        self.heard = b""
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("the ca", "the server")]
        root = _builder(names[0], names[0], keys[0], ca).add_extension(x509.BasicConstraints(True, None), critical=True)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        made = _builder(names[1], names[0], keys[1], leaf).add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        signed = made.add_extension(address, critical=False).sign(keys[0], hashes.SHA256())
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(root.sign(keys[0], hashes.SHA256()).public_bytes(Encoding.PEM))
        (directory / "server.pem").write_bytes(signed.public_bytes(Encoding.PEM))
        pkcs8 = keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (directory / "server.key").write_bytes(pkcs8)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(directory / "server.pem", directory / "server.key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection, self._context.wrap_socket(connection, server_side=True) as secured:
                self.heard = secured.recv(1000)
                secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    def get(self, now: Now) -> int:
        """Ask as the agent would; the status of the answer."""
        context = client_context(lambda: now, ca=self.ca)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=context)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status
        finally:
            connection.close()
            self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, times: Times
) -> x509.CertificateBuilder:
    begins, ends = (dt.datetime.fromtimestamp(at_ms // 1000, dt.timezone.utc) for at_ms in times)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)


LONG = (BUILD_MS - YEAR_MS, BUILD_MS + 20 * YEAR_MS)
NEW = (BUILD_MS + YEAR_MS, BUILD_MS + 2 * YEAR_MS)
OLD = (BUILD_MS - YEAR_MS, BUILD_MS - DAY_MS)


@pytest.mark.parametrize(
    ("now", "leaf"),
    [
        (Now(0), NEW),
        (Now(0, BUILD_MS + YEAR_MS), NEW),
        (Now(BUILD_MS + YEAR_MS + DAY_MS), NEW),
        (Now(BUILD_MS), NEW),
    ],
)
def test_a_late_clock_does_not_hinder(tmp_path: Path, now: Now, leaf: Times) -> None:
    """CLK-1 and CLK-3: with the clock at 1970, or late after a long rest, TLS works with certificates made since."""
    server = Server(tmp_path, leaf, LONG)
    assert server.get(now) == 204
    assert server.heard.startswith(b"GET / ")


@pytest.mark.parametrize(
    ("now", "leaf", "ca", "said"),
    [
        (Now(0), OLD, LONG, "the server ended .* clock is behind"),
        (Now(0, NEW[1] + DAY_MS), NEW, LONG, "the server ended .* clock is behind"),
        (Now(NEW[1] + DAY_MS), NEW, LONG, "the server ended"),
        (Now(BUILD_MS + 73 * YEAR_MS), NEW, LONG, "the server ended"),
        (Now(0), NEW, OLD, "the ca ended"),
    ],
)
def test_what_has_ended_is_refused_before_anything_is_sent(
    tmp_path: Path, now: Now, leaf: Times, ca: Times, said: str
) -> None:
    """CLK-2: a certificate of the chain that ended before clock or floor is refused by name, unheard."""
    server = Server(tmp_path, leaf, ca)
    with pytest.raises(CertificateTimeError, match=said) as caught:
        server.get(now)
    assert caught.value.hint
    assert server.heard == b""


@pytest.mark.parametrize(
    ("host", "client", "said"), [("127.0.0.2", False, "IP address"), ("127.0.0.1", True, "purpose")]
)
def test_all_else_is_checked_as_ever(tmp_path: Path, host: str, client: bool, said: str) -> None:
    """CLK-4: without OpenSSL's look at the time, name, purpose and chain are still its business."""
    server = Server(tmp_path, NEW, LONG, host, client=client)
    with pytest.raises(ssl.SSLCertVerificationError, match=said):
        server.get(Now(0))


def test_a_foreign_authority_is_refused(tmp_path: Path) -> None:
    """CLK-4: the chain must end in the CA that the device holds."""
    (tmp_path / "other").mkdir()
    other, server = Server(tmp_path / "other", NEW, LONG), Server(tmp_path, NEW, LONG)
    other.close()
    server.ca = other.ca
    with pytest.raises(ssl.SSLCertVerificationError):
        server.get(Now(0))


def test_the_floor_is_the_last_verified_order(tmp_path: Path) -> None:
    """CLK-5: the floor is the later of build time and last verified `iat`."""
    assert Now.read().floor_ms == BUILD_MS
    assert Now.read(BUILD_MS - 1).floor_ms == BUILD_MS
    assert Now.read(BUILD_MS + 1).floor_ms == BUILD_MS + 1
    assert not Now(BUILD_MS, BUILD_MS + 1).clock_ok


@pytest.fixture
def link(world: World) -> Iterator[list[BrokerLink]]:
    made: list[BrokerLink] = []
    yield made
    for each in made:
        each.stop(0.1)


def test_the_supervisors_connection_at_1970_and_2099(world: World, link: list[BrokerLink]) -> None:
    """CLK-1 and CLK-2: a real broker is reached with the clock at 1970; at 2099 it is refused by name."""
    folder = world.agent.home / "var" / "identity"
    files = (folder / "device.pem", folder / "device.key", folder / "ca.pem")
    outcomes = []
    for now in (Now(0), Now(BUILD_MS + 73 * YEAR_MS)):
        credentials = Credentials(*files, clock=lambda now=now: now)  # type: ignore[misc]  # the default binds it
        made = BrokerLink("dev-1", Address("127.0.0.1", world.broker.port), credentials, 1, lambda: None)
        link.append(made)
        made.start()
        outcomes.append(until(lambda made=made: next(iter(made.facts()), None), "a fact"))
    assert isinstance(outcomes[0], Connected)
    assert isinstance(outcomes[1], Lost)
    assert "ended" in outcomes[1].reason


@pytest.mark.skipif(not FAKETIME.exists(), reason="faketime is not installed: no agent was run at 1970")
def test_a_whole_agent_lives_at_1970(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CLK-1: an agent whose system clock says 1970 connects, is ordered a release, and it succeeds."""
    # faketime's own wait for an absolute monotonic time fails; a sleep that selects does not need it.
    (tmp_path / "sitecustomize.py").write_text(
        "import select, time\ntime.sleep = lambda s: select.select([], [], [], s) and None\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("LD_PRELOAD", str(FAKETIME))
    monkeypatch.setenv("FAKETIME", "@1970-01-02 00:00:00")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    world.agent.start()
    monkeypatch.delenv("LD_PRELOAD")
    artifact = world.install("1.0")
    assert world.serving() == artifact.digest
    reported = world.server.reported("dev-1")
    assert reported is not None
    assert not reported.clock_ok
    assert reported.at_ms < 2 * 365 * DAY_MS
