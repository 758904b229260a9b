"""Enrolment against a real HTTP server on loopback, plain and with TLS."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from outrider_agent import config
from outrider_agent.durable import Durable
from outrider_agent.enrol import Request, TrustRoot, enrol
from outrider_agent.errors import AgentError, DurableError, EnrolmentError, InputError, UnreachableError
from outrider_agent.paths import Paths
from outrider_agent.update import identity
from tests.agent.enrolment import ROOT, FleetServer
from tests.agent.supervisor.house import Authority


@pytest.fixture
def server(authority: Authority) -> Iterator[FleetServer]:
    made = FleetServer(authority, tls=False)
    yield made
    made.close()


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths.under(tmp_path / "home")


def request_to(server: FleetServer) -> Request:
    return Request(server.url, "random.00", "dev-1", "x86-64", TrustRoot(hashlib.sha256(ROOT.encode()).hexdigest()))


def test_enrolment_writes_identity_and_configuration(server: FleetServer, paths: Paths) -> None:
    """AGT-ENR-1: the key is made here and stays here; files are for their owner; agent.toml is written where absent."""
    found = enrol(request_to(server), paths, Durable())
    key = load_pem_private_key((paths.identity / "device.key").read_bytes(), None)
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert found == identity.load(paths.identity)
    assert (found.device, found.fleet, found.key_sha256) == ("dev-1", "test", hashlib.sha256(der).hexdigest())
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths.identity.iterdir())
    assert "PRIVATE" not in server.requests[0].csr_pem
    assert config.load(paths.config).broker == config.Broker("127.0.0.1", 8883)
    assert (paths.identity / "root.json").read_text() == ROOT


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"root": "{}"}, "root of trust"),
        ({"device": "dev-2"}, "not for dev-1"),
        ({"certificate_pem": "nonsense"}, "cannot be read"),
    ],
)
def test_an_answer_that_does_not_hold_writes_nothing(
    server: FleetServer, paths: Paths, changes: dict[str, str], error: str
) -> None:
    """AGT-ENR-2: a foreign root, another device's certificate, nonsense: refused by name, before a byte is written."""
    server.changes = changes
    with pytest.raises(EnrolmentError, match=error):
        enrol(request_to(server), paths, Durable())
    assert not paths.var.exists()
    assert not paths.etc.exists()


def test_a_certificate_for_another_key_is_refused(server: FleetServer, paths: Paths, authority: Authority) -> None:
    """AGT-ENR-2: a certificate of this name for a foreign key would connect somebody else."""
    authority.issue("dev-1", ExtendedKeyUsageOID.CLIENT_AUTH)
    server.changes = {"certificate_pem": (authority.directory / "dev-1.pem").read_text()}
    with pytest.raises(EnrolmentError, match="and its key"):
        enrol(request_to(server), paths, Durable())


def test_a_certificate_of_another_authority_is_refused(server: FleetServer, paths: Paths, tmp_path: Path) -> None:
    """AGT-ENR-2: the CA that comes with a certificate must have issued it, or no server would be known again."""
    other = Authority(tmp_path / "other")
    server.changes = {"ca_pem": (other.directory / "ca.pem").read_text()}
    with pytest.raises(EnrolmentError, match="not issued by the CA") as caught:
        enrol(request_to(server), paths, Durable())
    assert caught.value.hint
    assert not paths.var.exists()


def test_the_servers_refusal_is_told(server: FleetServer, paths: Paths) -> None:
    """AGT-ENR-3: the server's message and hint reach the person."""
    server.refusal = (403, {"error": "TokenError", "message": "the token was used", "hint": "make a new one"})
    with pytest.raises(EnrolmentError, match="the token was used") as caught:
        enrol(request_to(server), paths, Durable())
    assert caught.value.hint == "make a new one"


def test_an_enrolled_device_refuses_until_it_is_asked_again(server: FleetServer, paths: Paths) -> None:
    """AGT-ENR-4: an identity is not overwritten by accident; agent.toml is kept."""
    first = enrol(request_to(server), paths, Durable())
    paths.config.write_text(paths.config.read_text() + "[samples]\nenabled = true\n")
    with pytest.raises(InputError, match="enrolled already"):
        enrol(request_to(server), paths, Durable())
    assert enrol(replace(request_to(server), again=True), paths, Durable()).key_sha256 != first.key_sha256
    assert config.load(paths.config).samples.enabled


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://192.0.2.1:80", InputError),
        ("ftp://127.0.0.1", InputError),
        ("nonsense", InputError),
        ("https://fleet:port", InputError),
        ("https://fleet:99999", InputError),
        ("https://[::1", InputError),
        (f"https://{'a' * 70}.example", InputError),
        ("http://127.0.0.1:1", UnreachableError),
        ("https://127.0.0.1:1", UnreachableError),
    ],
)
def test_addresses(paths: Paths, url: str, error: type[AgentError]) -> None:
    """AGT-ENR-5: plain HTTP on loopback alone; an address where nobody answers says so."""
    request = Request(url, "random.00", "dev-1", "x86-64", TrustRoot(None))
    with pytest.raises(error) as caught:
        enrol(request, paths, Durable())
    assert caught.value.hint


def test_https_is_pinned_to_the_ca_in_the_token(authority: Authority, paths: Paths) -> None:
    """AGT-ENR-5: the token's fingerprint must be in the chain, and the chain must hold; else no token is sent."""
    server = FleetServer(authority, tls=True)
    try:
        pin = hashlib.sha256(authority.certificate.public_bytes(Encoding.DER)).hexdigest()
        with pytest.raises(EnrolmentError, match="does not show the CA"):
            enrol(replace(request_to(server), token=f"random.{'0' * 64}"), paths, Durable())
        assert not server.requests
        assert enrol(replace(request_to(server), token=f"random.{pin}"), paths, Durable()).device == "dev-1"
    finally:
        server.close()


@pytest.mark.parametrize("place", ["etc", "var"])
def test_a_place_that_cannot_be_written(server: FleetServer, paths: Paths, tmp_path: Path, place: str) -> None:
    """AGT-ENR-6: a token is not spent on a device that could not keep its identity."""
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DurableError, match=str(tmp_path / "file")) as caught:
        enrol(request_to(server), replace(paths, **{place: tmp_path / "file" / place}), Durable())
    assert caught.value.hint
    assert not server.requests


def test_the_root_may_be_given_as_a_file(tmp_path: Path) -> None:
    """AGT-ENR-2: a file is compared by its bytes; what is neither file nor digest is refused."""
    (tmp_path / "root.json").write_text(ROOT)
    TrustRoot.parse(str(tmp_path / "root.json")).check(ROOT)
    with pytest.raises(EnrolmentError):
        TrustRoot.parse("sha256:" + "0" * 64).check(ROOT)
    for text in ("sha256:12", str(tmp_path / "absent")):
        with pytest.raises(InputError):
            TrustRoot.parse(text)


def test_bad_names_are_refused_before_anything_is_sent(server: FleetServer, paths: Paths) -> None:
    """AGT-ENR-3: a device id outside the alphabet never reaches the server."""
    with pytest.raises(InputError):
        enrol(replace(request_to(server), device="Dev 1"), paths, Durable())
    assert not server.requests
