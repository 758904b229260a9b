"""The certificate authority: what it signs, and what it refuses."""

import datetime as dt
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider_fleet.pki import csr
from outrider_fleet.pki.ca import FLEET_NAME, CertificateAuthority
from outrider_fleet.pki.errors import AuthorityMissingError, RequestRefusedError
from outrider_fleet.pki.tls import client_context, server_context
from outrider_fleet.signing.roles import TARGETS_LIFE
from outrider_protocol.errors import MalformedError

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def request(key: Key, name: str = "whatever", *extensions: x509.ExtensionType) -> str:
    """A signing request, PEM."""
    builder = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_device_certificate(ca: CertificateAuthority) -> None:
    """PKI-2: the name is the server's, never the request's; clientAuth only, no authority, thirty days."""
    key = p256()
    wished = request(
        key,
        "_fleet",
        x509.BasicConstraints(ca=True, path_length=3),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    )
    certificate = x509.load_pem_x509_certificate(ca.issue_device(wished, "dev-1").encode())
    assert certificate.subject.rfc4514_string() == "CN=dev-1"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.public_key() == key.public_key()
    left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=29.9) < left <= dt.timedelta(days=30)
    assert certificate.verify_directly_issued_by(ca.issuer) is None


def test_a_servers_certificate_outlives_targets(ca: CertificateAuthority) -> None:
    """CLK-6: made now, it ends after targets that are signed now, so no floor that orders can set shuts it out."""
    leaf = x509.load_pem_x509_certificate(ca.issue_server().certificate_pem)
    assert leaf.not_valid_after_utc > dt.datetime.now(dt.UTC) + TARGETS_LIFE


@pytest.mark.parametrize(
    "make",
    [
        lambda: request(rsa.generate_private_key(65537, 2048)),
        lambda: request(ed25519.Ed25519PrivateKey.generate()),
        lambda: request(ec.generate_private_key(ec.SECP384R1())),
        lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----",
        lambda: "",
        lambda: "é" * 10,
        lambda: request(p256()) + " " * csr.REQUEST_BYTES,
    ],
)
def test_other_requests_are_refused(ca: CertificateAuthority, make: Callable[[], str]) -> None:
    """PKI-1: other key types, damaged and oversized requests are refused."""
    with pytest.raises(RequestRefusedError):
        ca.issue_device(make(), "dev-1")


def test_request_must_be_signed_by_its_own_key(ca: CertificateAuthority) -> None:
    """PKI-1: a request for somebody else's public key is refused."""
    victim, forged = p256(), request(p256())
    der = x509.load_pem_x509_csr(forged.encode()).public_bytes(Encoding.DER)
    own = x509.load_pem_x509_csr(forged.encode()).public_key()
    point = own.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    stolen = der.replace(point, victim.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
    pem = x509.load_der_x509_csr(stolen).public_bytes(Encoding.PEM).decode()
    with pytest.raises(RequestRefusedError, match="own key"):
        ca.issue_device(pem, "dev-1")


@pytest.mark.parametrize("name", [FLEET_NAME, "_x", "Dev", "dev.1", "dev/1", "", "d" * 65, "dev-1\n", "dev 1"])
def test_names_outside_the_alphabet_are_refused(ca: CertificateAuthority, name: str) -> None:
    """PKI-3: no device certificate can carry a server's name."""
    with pytest.raises(MalformedError):
        ca.issue_device(request(p256()), name)


def test_root_and_issuer_are_two_keys(tmp_path: Path) -> None:
    """PKI-4: the root's key may lie elsewhere; issuing needs the issuer's alone."""
    CertificateAuthority.create(tmp_path / "ca", root_directory=tmp_path / "offline")
    assert not (tmp_path / "ca" / "root.key").exists()
    assert (tmp_path / "offline" / "root.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "ca" / "issuer.key").stat().st_mode & 0o777 == 0o600
    ca = CertificateAuthority.load(tmp_path / "ca")
    assert ca.root.public_key() != ca.issuer.public_key()
    assert ca.issuer.verify_directly_issued_by(ca.root) is None
    assert ca.issue_device(request(p256()), "dev-1")
    issuer_depth = ca.issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    assert issuer_depth == 0


def test_authority_is_never_overwritten(tmp_path: Path) -> None:
    """PKI-5: creating where an authority is, or loading where none is, is a named error."""
    ca = CertificateAuthority.create(tmp_path / "ca")
    with pytest.raises(AuthorityMissingError):
        CertificateAuthority.create(tmp_path / "ca")
    with pytest.raises(AuthorityMissingError):
        CertificateAuthority.load(tmp_path / "elsewhere")
    assert CertificateAuthority.load(tmp_path / "ca").fingerprint == ca.fingerprint
    (tmp_path / "ca" / "issuer.key").write_bytes(b"")
    with pytest.raises(AuthorityMissingError):
        CertificateAuthority.load(tmp_path / "ca")


def test_key_hash_is_the_orders_audience(ca: CertificateAuthority) -> None:
    """PKI-6: request and certificate of one key have one hash: SHA-256 of its SubjectPublicKeyInfo."""
    key = p256()
    pem = request(key)
    assert csr.request_key_sha256(pem) == csr.certificate_key_sha256(ca.issue_device(pem, "dev-1"))
    assert csr.request_key_sha256(pem) != csr.request_key_sha256(request(p256()))


@pytest.mark.parametrize(("certificate", "accepted"), [("server", True), ("device", False), ("fleet", False)])
def test_only_a_server_certificate_serves(
    ca: CertificateAuthority, tmp_path: Path, certificate: str, accepted: bool
) -> None:
    """PKI-7: a TLS client accepts the server's certificate for 127.0.0.1, and no client's in its place."""
    (tmp_path / "ca.pem").write_text(ca.ca_pem)
    fleet = ca.issue_fleet().write(tmp_path, "fleet")
    key = p256()
    device_pem = ca.issue_device(request(key), "127-0-0-1")
    (tmp_path / "device.pem").write_text(device_pem)
    pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "device.key").write_bytes(pkcs8)
    pairs = {
        "server": ca.issue_server().write(tmp_path, "server"),
        "fleet": fleet,
        "device": (tmp_path / "device.pem", tmp_path / "device.key"),
    }
    left, right = socket.socketpair()
    serving = threading.Thread(target=_serve, args=(left, server_context(*pairs[certificate])))
    serving.start()
    context = client_context(tmp_path / "ca.pem", *fleet)
    try:
        if accepted:
            context.wrap_socket(right, server_hostname="127.0.0.1").close()
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                context.wrap_socket(right, server_hostname="127.0.0.1")
    finally:
        right.close()
        serving.join()


def _serve(connection: socket.socket, context: ssl.SSLContext) -> None:
    try:
        context.wrap_socket(connection, server_side=True).close()
    except (ssl.SSLError, OSError):
        connection.close()


def test_issuing_is_fast(ca: CertificateAuthority) -> None:
    """PKI-8: at least 400 certificates a second a core (a tenth of that is the limit of this test)."""
    pem = request(p256())
    began = time.process_time()
    for n in range(40):
        ca.issue_device(pem, f"dev-{n}")
    per_second = 40 / (time.process_time() - began)
    print(f"{per_second:.0f} certificates a CPU second")
    assert per_second > 40
