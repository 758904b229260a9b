"""The next certificate of a device. Rules: docs/spec/enrolment.md."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from outrider_fleet.app import admission, enrol, incoming, ingest, renew, tokens
from outrider_fleet.app.renew import RenewalRefusedError
from outrider_fleet.errors import ConflictError, UnknownError
from outrider_fleet.pki.csr import certificate_key_sha256
from outrider_protocol import topics
from outrider_protocol.errors import MalformedError
from outrider_protocol.messages import EnrolRequest, Renewal, RenewRequest
from tests.fleet.app.house import House

DAY_S = 86_400
Key = ec.EllipticCurvePrivateKey


@pytest.fixture
def key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def device(house: House, key: Key) -> str:
    """`watch-1`, enrolled with `key`."""
    enrol.enrol(house.fleet, EnrolRequest(tokens.create(house.fleet, "device", ""), "watch-1", "x86-64", csr(key)))
    return "watch-1"


def csr(key: Key) -> str:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def over_link(house: House, device: str, key: Key) -> Renewal:
    """Ask as a connected device does; the answer that is sent to it."""
    message = incoming.parse(topics.renew(device), RenewRequest(device, csr(key)).encode())
    assert message is not None
    ingest.commit(house.fleet, [message])
    topic, payload, retain = house.broker.sent[-1]
    assert (topic, retain) == (topics.certificate(device), False)
    return Renewal.decode(payload)


def over_http(house: House, device: str, key: Key) -> Renewal:
    return renew.over_http(house.fleet, RenewRequest(device, csr(key)))


Way = Callable[[House, str, Key], Renewal]
BOTH = pytest.mark.parametrize("way", [over_link, over_http])


@BOTH
def test_the_next_certificate_comes_unattended(house: House, device: str, key: Key, way: Way) -> None:
    """REN-1: from two thirds of its life on there is a new one, for the same key; before, the present one again."""
    first = house.value("SELECT certificate_pem FROM device_keys")
    assert way(house, device, key) == Renewal("issued", first)
    house.clock.pass_s(19.9 * DAY_S)
    assert way(house, device, key).certificate_pem == first
    house.clock.pass_s(0.2 * DAY_S)
    answer = way(house, device, key)
    assert answer.state == "issued"
    assert answer.certificate_pem != first
    assert certificate_key_sha256(answer.certificate_pem) == certificate_key_sha256(str(first))
    assert admission.key_of(house.fleet, device) == certificate_key_sha256(str(first))
    assert way(house, device, key) == answer
    assert house.value("SELECT count(*) FROM device_keys WHERE revoked_ms IS NOT NULL") == 0


def test_another_key_is_refused_and_logged(
    house: House, device: str, key: Key, caplog: pytest.LogCaptureFixture
) -> None:
    """REN-2: whoever asks for another key's certificate gets none, however he asks, and it is on record."""
    house.clock.pass_s(25 * DAY_S)
    stranger = ec.generate_private_key(ec.SECP256R1())
    assert over_link(house, device, stranger).state == "refused"
    assert house.value("SELECT count(*) FROM audit WHERE action = 'device.renew.refused'") == 1
    with pytest.raises(RenewalRefusedError, match="another key"):
        over_http(house, device, stranger)
    assert "another key" in caplog.text
    assert house.value("SELECT count(*) FROM device_keys") == 1


def test_a_device_asks_for_itself_alone(house: House, device: str, key: Key) -> None:
    """REN-2: a request for another device on its own topic is not understood."""
    with pytest.raises(MalformedError):
        incoming.parse(topics.renew("watch-2"), RenewRequest(device, csr(key)).encode())


def test_an_ended_certificate_waits_for_a_person(house: House, device: str, key: Key) -> None:
    """REN-4: for 90 days the old key still says who asks; an operator decides; the yes is used once."""
    with pytest.raises(ConflictError):
        renew.approve(house.fleet, device, "operator:anna")
    house.clock.pass_s(31 * DAY_S)
    assert over_http(house, device, key).state == "waiting"
    assert over_http(house, device, key).state == "waiting"
    assert house.value("SELECT count(*) FROM audit WHERE action = 'device.renew.asked'") == 1
    renew.approve(house.fleet, device, "operator:anna")
    assert over_http(house, device, key).state == "issued"
    assert house.value("SELECT count(*) FROM renewals") == 0
    house.clock.pass_s(31 * DAY_S)
    assert over_http(house, device, key).state == "waiting"
    with pytest.raises(UnknownError):
        renew.approve(house.fleet, "nobody", "operator:anna")


def test_after_the_grace_only_enrolment_helps(house: House, device: str, key: Key) -> None:
    """REN-4: 90 days after its end the key proves nothing any more, approved or not."""
    house.clock.pass_s(119 * DAY_S)
    assert over_http(house, device, key).state == "waiting"
    renew.approve(house.fleet, device, "operator:anna")
    house.clock.pass_s(2 * DAY_S)
    with pytest.raises(RenewalRefusedError, match="90 days"):
        over_http(house, device, key)


def test_who_was_revoked_gets_nothing(house: House, device: str, key: Key) -> None:
    """REN-4: a revoked device, and one that never was, are refused; its session is none that ingest hears."""
    house.clock.pass_s(25 * DAY_S)
    admission.revoke(house.fleet, device, "operator:anna")
    for name in (device, "watch-9"):
        with pytest.raises(RenewalRefusedError):
            over_http(house, name, key)
    sent = len(house.broker.sent)
    message = incoming.parse(topics.renew(device), RenewRequest(device, csr(key)).encode())
    assert message is not None
    ingest.commit(house.fleet, [message])
    assert len(house.broker.sent) == sent
