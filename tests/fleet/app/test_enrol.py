"""Enrolment, tokens, admission, groups. Rules: docs/spec/api.md."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from outrider_fleet.app import admission, enrol, groups, tokens
from outrider_fleet.errors import (
    ConflictError,
    InvalidRequestError,
    TokenRefusedError,
    UnauthenticatedError,
    UnknownError,
)
from outrider_fleet.pki.csr import request_key_sha256
from outrider_fleet.pki.errors import RequestRefusedError
from outrider_fleet.pki.revocation import serial_of
from outrider_fleet.store import devices
from outrider_protocol.messages import EnrolRequest
from tests.fleet.app.house import House, csr


def ask(token: str, device: str = "watch-1") -> EnrolRequest:
    return EnrolRequest(token, device, "x86-64", csr())


def test_enrolled(house: House) -> None:
    """ENR-4: the certificate names the device, its key is the device's own, and the root of trust comes along."""
    request = ask(tokens.create(house.fleet, "device", ""))
    answer = enrol.enrol(house.fleet, request)
    certificate = x509.load_pem_x509_certificate(answer.certificate_pem.encode())
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "watch-1"
    assert admission.key_of(house.fleet, "watch-1") == request_key_sha256(request.csr_pem)
    assert admission.admit(house.fleet, "watch-1")
    assert (answer.fleet, answer.broker_port) == ("test", 8883)
    assert answer.root == (house.home.trust / "root.json").read_text()


def test_token_form(house: House) -> None:
    """ENR-1 and ENR-2: it carries the root's fingerprint, and only its hash is stored."""
    token = tokens.create(house.fleet, "device", "")
    assert token.endswith("." + house.authority.fingerprint)
    assert house.value("SELECT token_sha256 FROM tokens") == tokens.hashed(token)
    assert token not in str(house.rows("SELECT * FROM tokens"))


def test_token_is_single_use(house: House) -> None:
    """ENR-1: the second use is refused, for whatever device."""
    token = tokens.create(house.fleet, "device", "")
    enrol.enrol(house.fleet, ask(token))
    with pytest.raises(TokenRefusedError, match="used before"):
        enrol.enrol(house.fleet, ask(token, "watch-2"))
    assert house.value("SELECT count(*) FROM devices") == 1


@pytest.mark.parametrize("ttl_s", [None, 60.0, 10_000_000.0])
def test_token_lives_a_day_at_most(house: House, ttl_s: float | None) -> None:
    """ENR-1: whatever was asked for."""
    token = tokens.create(house.fleet, "device", "", ttl_s)
    house.clock.pass_s(min(ttl_s or 86_400, 86_400))
    with pytest.raises(TokenRefusedError, match="expired"):
        enrol.enrol(house.fleet, ask(token))


def test_other_tokens_do_not_enrol(house: House) -> None:
    """ENR-1: a token of another kind, and one that was never made."""
    for token in (tokens.create(house.fleet, "operator", "x"), "made up"):
        with pytest.raises(TokenRefusedError):
            enrol.enrol(house.fleet, ask(token))


def test_enrolled_device_stays(house: House) -> None:
    """ENR-3: its name cannot be taken with any token, only with one made for it."""
    enrol.enrol(house.fleet, ask(tokens.create(house.fleet, "device", "")))
    with pytest.raises(ConflictError):
        enrol.enrol(house.fleet, ask(tokens.create(house.fleet, "device", "")))
    first = admission.key_of(house.fleet, "watch-1")
    with pytest.raises(TokenRefusedError, match="made for"):
        enrol.enrol(house.fleet, ask(tokens.create(house.fleet, "device", "", device="watch-1"), "watch-2"))
    enrol.enrol(house.fleet, ask(tokens.create(house.fleet, "device", "", device="watch-1")))
    assert admission.key_of(house.fleet, "watch-1") != first


def test_revoked(house: House) -> None:
    """ENR-5: refused from then on, until it is enrolled anew."""
    enrol.enrol(house.fleet, ask(tokens.create(house.fleet, "device", "")))
    pseudonym = house.value("SELECT pseudonym FROM devices")
    admission.revoke(house.fleet, "watch-1", "operator:test")
    assert not admission.admit(house.fleet, "watch-1")
    assert admission.key_of(house.fleet, "watch-1") is None
    enrol.enrol(house.fleet, ask(tokens.create(house.fleet, "device", "")))
    assert admission.admit(house.fleet, "watch-1")
    assert house.value("SELECT pseudonym FROM devices") == pseudonym
    with pytest.raises(UnknownError):
        admission.revoke(house.fleet, "nobody", "operator:test")


def test_a_revoked_token_does_not_enrol(house: House) -> None:
    """ENR-1: a token that was revoked before its use opens nothing."""
    token = tokens.create(house.fleet, "device", "")
    tokens.revoke(house.fleet, tokens.token_id(tokens.hashed(token)), "operator:test")
    with pytest.raises(TokenRefusedError):
        enrol.enrol(house.fleet, ask(token))


def test_enrolling_anew_revokes_the_former_key(house: House) -> None:
    """ENR-5: brokers that ask nobody learn of it: the former certificate is in the list, the new one is not."""
    enrol.enrol(house.fleet, ask(tokens.create(house.fleet, "device", "")))
    former = serial_of(str(house.value("SELECT certificate_pem FROM device_keys")))
    enrol.enrol(house.fleet, ask(tokens.create(house.fleet, "device", "", device="watch-1")))
    assert [revoked.serial for revoked in admission.revoked(house.fleet)] == [former]


def test_bad_request_uses_no_token(house: House) -> None:
    """ENR-1: a refused signing request leaves the token as it was."""
    token = tokens.create(house.fleet, "device", "")
    with pytest.raises(RequestRefusedError):
        enrol.enrol(house.fleet, EnrolRequest(token, "watch-1", "x86-64", "no request"))
    enrol.enrol(house.fleet, ask(token))


def test_authentication(house: House) -> None:
    """API-1: a token is known by its hash, until it expires."""
    token = tokens.create(house.fleet, "operator", "anna", 60)
    caller = tokens.authenticate(house.fleet, token)
    assert (caller.kind, caller.actor) == ("operator", "operator:anna")
    house.clock.pass_s(61)
    for text in (token, "x", tokens.create(house.fleet, "device", "")):
        with pytest.raises(UnauthenticatedError):
            tokens.authenticate(house.fleet, text)


@pytest.mark.parametrize(
    ("kind", "ttl_s", "device"), [("king", None, None), ("operator", -1.0, None), ("operator", None, "watch-1")]
)
def test_refused_tokens(house: House, kind: str, ttl_s: float | None, device: str | None) -> None:
    """API-5: what makes no sense is refused."""
    with pytest.raises(InvalidRequestError):
        tokens.create(house.fleet, kind, "", ttl_s, device=device)


def test_groups(house: House) -> None:
    """ROL-15: static lists, dynamic queries, and `all`."""
    house.enrol("watch-1", "watch-2", "board-1")
    groups.create(house.fleet, "few", ["watch-2"], None, "operator:test")
    groups.create(house.fleet, "watches", None, {"prefix": "watch-"}, "operator:test")
    groups.create(house.fleet, "jetsons", None, {"profile": "jetson"}, "operator:test")
    with house.fleet.look() as connection:
        found = {row["name"]: row["devices"] for row in devices.list_groups(connection)}
    assert found == {
        "all": ["board-1", "watch-1", "watch-2"],
        "few": ["watch-2"],
        "watches": ["watch-1", "watch-2"],
        "jetsons": [],
    }
    admission.revoke(house.fleet, "watch-2", "operator:test")
    with house.fleet.look() as connection:
        assert {tuple(row["devices"]) for row in devices.list_groups(connection)} >= {("watch-1",), ()}
    for members, query, error in (
        (None, None, InvalidRequestError),
        ([], {}, InvalidRequestError),
        (None, {"mood": "x"}, InvalidRequestError),
        (["nobody"], None, UnknownError),
    ):
        with pytest.raises(error):
            groups.create(house.fleet, "other", members, query, "operator:test")
    with pytest.raises(ConflictError):
        groups.create(house.fleet, "all", [], None, "operator:test")
