"""What a device takes for its next certificate, and when it asks. Rules: docs/spec/enrolment.md."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider_agent.clock import BUILD_MS, Now
from outrider_agent.control import Channel
from outrider_agent.durable import Durable
from outrider_agent.errors import EnrolmentError, StateError, UnreachableError
from outrider_agent.renewal import Keeper, Task, is_due, over_http, renew
from outrider_agent.update import identity
from outrider_protocol.messages import Renewal, RenewRequest
from outrider_protocol.trust import Identity
from tests.agent.supervisor.house import DAY, Authority

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
Maker = Callable[..., str]


@pytest.fixture
def device_key(authority: Authority, tmp_path: Path) -> ec.EllipticCurvePrivateKey:
    """The key of `dev-1`, whose identity lies in `tmp_path`."""
    key = authority.issue("dev-1", CLIENT)
    for name, source in (("device.pem", "dev-1.pem"), ("device.key", "dev-1.key"), ("ca.pem", "ca.pem")):
        (tmp_path / name).write_bytes((authority.directory / source).read_bytes())
    (tmp_path / "identity.json").write_bytes(identity.encode(Identity("dev-1", "0" * 64, "test", "x86-64")))
    return key


def made(
    authority: Authority,
    key: ec.EllipticCurvePrivateKey,
    *,
    name: str = "dev-1",
    days: float = 45,
    usage: x509.ObjectIdentifier | None = CLIENT,
) -> str:
    """A certificate that ends in so many days (the present one ends in 30)."""
    now = dt.datetime.now(dt.timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(authority.name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - DAY)
    builder = builder.not_valid_after(now + days * DAY)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_a_good_answer_replaces_the_certificate(
    authority: Authority, device_key: ec.EllipticCurvePrivateKey, tmp_path: Path
) -> None:
    """REN-3: for this name and key, from the fleet's CA, for clients, ending later: taken; the same again: nothing."""
    keeper, pem = Keeper(tmp_path, Durable()), made(authority, device_key)
    assert not keeper.take((tmp_path / "device.pem").read_text())
    assert keeper.take(pem)
    assert (tmp_path / "device.pem").read_text() == pem
    assert (tmp_path / "device.pem").stat().st_mode & 0o777 == 0o600
    assert not Keeper(tmp_path, Durable()).take(pem)


def test_any_other_answer_changes_nothing(
    authority: Authority, device_key: ec.EllipticCurvePrivateKey, tmp_path: Path
) -> None:
    """REN-3: another key, name, authority or purpose, an earlier end, and nonsense are refused by name."""
    keeper, before = Keeper(tmp_path, Durable()), (tmp_path / "device.pem").read_bytes()
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other" / "ca")
    answers = [
        ("not for dev-1", made(authority, ec.generate_private_key(ec.SECP256R1()))),
        ("for \\['dev-2'\\]", made(authority, device_key, name="dev-2")),
        ("fleet's CA", made(other, device_key)),
        ("for a client", made(authority, device_key, usage=SERVER)),
        ("for a client", made(authority, device_key, usage=None)),
        ("ends before", made(authority, device_key, days=10)),
        ("no certificate", "nonsense"),
    ]
    for said, pem in answers:
        with pytest.raises(EnrolmentError, match=said):
            keeper.take(pem)
    assert (tmp_path / "device.pem").read_bytes() == before


def test_the_request_proves_the_key(device_key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    """REN-1: it is signed with the device's own key, and nothing of the key is in it."""
    asked = Keeper(tmp_path, Durable()).request()
    request = x509.load_pem_x509_csr(asked.csr_pem.encode())
    assert asked.device == "dev-1"
    assert request.is_signature_valid
    assert request.public_key() == device_key.public_key()


def test_when_it_asks(device_key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    """REN-1: from two thirds of the life on (31 days here), or where the clock cannot tell."""
    certificate = Keeper(tmp_path, Durable()).certificate
    begins_ms = int(certificate.not_valid_before_utc.timestamp() * 1000)
    day_ms = 86_400_000
    assert not is_due(certificate, Now(begins_ms + 20 * day_ms))
    assert is_due(certificate, Now(begins_ms + 21 * day_ms))
    assert is_due(certificate, Now(0))
    assert is_due(certificate, Now(begins_ms, begins_ms + 1))


def asked_over_link(tmp_path: Path, answer: Renewal) -> tuple[str, str]:
    """Run one task over a channel whose other end answers."""
    ours, theirs = socket.socketpair()
    supervisor, child = Channel(ours), Channel(theirs)

    def answer_once() -> None:
        message = supervisor.receive()
        assert message is not None
        assert RenewRequest.decode(message.blob or b"").device == "dev-1"
        supervisor.send("message", {}, answer.encode())

    thread = threading.Thread(target=answer_once)
    thread.start()
    found = renew(Task(True, "", Now(0)), Keeper(tmp_path, Durable()), child, tmp_path / "ca.pem")
    thread.join()
    ours.close()
    theirs.close()
    return found


def test_outcomes(authority: Authority, device_key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    """REN-1: renewed, or in the server's own words why not."""
    assert asked_over_link(tmp_path, Renewal("waiting", why="an operator must")) == ("waiting", "an operator must")
    assert asked_over_link(tmp_path, Renewal("refused", why="another key")) == ("refused", "another key")
    assert asked_over_link(tmp_path, Renewal("issued", made(authority, device_key))) == ("renewed", "")


def test_without_a_way_it_waits(device_key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    """REN-5: without a connection only `[server] url` helps: HTTPS, or HTTP on loopback."""
    keeper = Keeper(tmp_path, Durable())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert renew(Task(False, "", Now.read()), keeper, Channel(ours), tmp_path / "ca.pem")[0] == "current"
    for server, error in (
        ("http://192.0.2.1", EnrolmentError),
        ("ftp://127.0.0.1", EnrolmentError),
        ("http://127.0.0.1:1", UnreachableError),
        ("https://127.0.0.1:1", UnreachableError),
    ):
        with pytest.raises(error) as caught:
            over_http(server, tmp_path / "ca.pem", keeper.request(), Now(BUILD_MS))
        assert caught.value.hint


def test_a_damaged_identity_is_named(device_key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    """REN-3: what cannot be read is left as it is, with a hint."""
    (tmp_path / "device.key").write_bytes(b"")
    with pytest.raises(StateError) as caught:
        Keeper(tmp_path, Durable())
    assert "Enrol" in caught.value.hint
