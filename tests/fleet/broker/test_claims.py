"""What is granted, without a broker."""

import asyncio
import base64
import contextlib
import datetime as dt
import fnmatch
import json
from pathlib import Path
from typing import Any

import nkeys
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from outrider_fleet.broker.callout import Callout
from outrider_fleet.broker.claims import Issuer, Request, read_request
from outrider_fleet.broker.credentials import load_or_create
from outrider_fleet.broker.permissions import FLEET, permissions
from outrider_fleet.broker.settings import Listen, ServerTls, render
from outrider_fleet.pki.ca import CertificateAuthority
from outrider_protocol import ids, topics
from outrider_protocol.errors import MalformedError

DEVICES = st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True)


def _matches(pattern: str, subject: str) -> bool:
    parts, words = pattern.split("."), subject.split(".")
    if parts[-1] == ">":
        return len(words) >= len(parts) and _matches(".".join(parts[:-1]), ".".join(words[: len(parts) - 1]))
    return len(parts) == len(words) and all(fnmatch.fnmatchcase(w, p) for p, w in zip(parts, words, strict=True))


@given(DEVICES, DEVICES)
def test_no_device_reaches_another(one: str, other: str) -> None:
    """BRK-4, BRK-5: no permission of a device matches any topic of another device."""
    allowed = permissions(one)
    for topic in (topics.desired(other), topics.ack(other), topics.bulk(other), topics.presence(other)):
        subject = topic.replace("/", ".")
        reached = any(_matches(pattern, subject) for pattern in allowed.publish + allowed.subscribe)
        assert reached == (one == other)
        assert any(_matches(pattern, subject) for pattern in FLEET.publish + FLEET.subscribe)


@pytest.mark.parametrize("name", ["_other", "dev.1", "dev/1", "Dev", "dev*", ">", ""])
def test_no_other_name_has_permissions(name: str) -> None:
    """BRK-3: a name that is neither `_fleet` nor a device id reaches nothing."""
    with pytest.raises(MalformedError):
        permissions(name)


def _token(body: Any) -> bytes:
    return b"e30." + base64.urlsafe_b64encode(json.dumps(body).encode()).rstrip(b"=") + b".e30"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["nats", "client_info", "client_tls", "verified_chains", "server_id", "id", "user_nkey", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | JSON.map(_token))
def test_malformed_requests_end_in_one_error(data: bytes) -> None:
    """BRK-22: whatever arrives as a request, it is understood or `MalformedError`."""
    with contextlib.suppress(MalformedError):
        read_request(data)


@pytest.mark.parametrize(
    "info",
    [
        {"type": "nats", "mqtt_id": "dev-1"},
        {"type": "websocket"},
        {},
        {"type": "mqtt", "mqtt_id": "dev-1"},
    ],
)
def test_without_a_verified_chain_no_name(info: dict[str, str]) -> None:
    """BRK-2: a client that is not MQTT, or has no verified certificate, has no name."""
    body = {"nats": {"client_info": info, "server_id": {"id": "N"}, "user_nkey": "U", "client_tls": {}}}
    assert read_request(_token(body)).client is None


def test_a_certificate_alone_is_no_mqtt_client(tmp_path: Path) -> None:
    """BRK-2: the same verified certificate over another protocol than MQTT has no name."""
    ca = CertificateAuthority.create(tmp_path / "ca")
    pem = ca.issue_fleet().certificate_pem.decode()
    for kind, name in (("mqtt", "_fleet"), ("nats", None), ("leafnode", None)):
        nats = {"client_info": {"type": kind, "mqtt_id": "_fleet"}, "client_tls": {"verified_chains": [[pem]]}}
        body = {"nats": {**nats, "server_id": {"id": "N"}, "user_nkey": "U"}}
        assert read_request(_token(body)).client == name


def _asked(pem: str, claimed: str) -> bytes:
    """The broker's question about an MQTT client with this certificate."""
    nats = {"client_info": {"type": "mqtt", "mqtt_id": claimed}, "client_tls": {"verified_chains": [[pem]]}}
    return _token({"nats": {**nats, "server_id": {"id": "N"}, "user_nkey": "U"}})


@pytest.mark.parametrize("claimed", ["dev-2", "_fleet", "", "dev-1 "])
def test_the_client_id_is_the_certificates_name(tmp_path: Path, claimed: str) -> None:
    """BRK-3: who claims another name than the certificate's has none, not even the certificate's."""
    pem = CertificateAuthority.create(tmp_path / "ca").issue_client("dev-1", 1).certificate_pem.decode()
    assert read_request(_asked(pem, "dev-1")).client == "dev-1"
    assert read_request(_asked(pem, claimed)).client is None


def test_a_certificate_of_two_names_has_none() -> None:
    """BRK-3: which of two common names it is, is not for the client to say."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text) for text in ("dev-1", "dev-2")])
    begins = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(begins).not_valid_after(begins + dt.timedelta(days=1))
    pem = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    assert [read_request(_asked(pem, claimed)).client for claimed in ("dev-1", "dev-2")] == [None, None]


@pytest.fixture
def callout(tmp_path: Path) -> Callout:
    """Admits `dev-1` and `dev-2` with the key `ab`; connected to nobody."""
    secrets = load_or_create(tmp_path / "secrets.json")
    return Callout("nats://127.0.0.1:1", secrets, {"dev-1", "dev-2"}.__contains__, key_of=lambda _: "ab")


def test_who_is_admitted(callout: Callout) -> None:
    """BRK-6, BRK-7, BRK-8: a device that the server admits, with its present key, unless it is being revoked."""
    assert callout._admitted("dev-1", "ab")
    assert not callout._admitted("dev-9", "ab")
    assert not callout._admitted("dev-1", "cd")
    callout.deny("dev-1")
    assert not callout._admitted("dev-1", "ab")
    assert callout._admitted("dev-2", "ab")
    callout.allow("dev-1")
    assert callout._admitted("dev-1", "ab")


def test_a_session_that_was_just_being_made_ends_too(callout: Callout, monkeypatch: pytest.MonkeyPatch) -> None:
    """BRK-8: while a device is revoked it is not admitted; its session is ended at once, and again after a while."""
    monkeypatch.setattr("outrider_fleet.broker.callout.SETTLE_S", 0.0)
    admitted: list[bool] = []

    async def kick(device: str) -> int:
        admitted.append(callout._admitted(device, "ab"))
        return 1

    monkeypatch.setattr(callout, "kick", kick)
    assert asyncio.run(callout.revoke("dev-1")) == 2
    assert admitted == [False, False]
    assert callout._admitted("dev-1", "ab")


def test_the_configuration_asks_for_certificates_and_for_us(tmp_path: Path) -> None:
    """BRK-2, BRK-9: the broker itself demands a certificate, and asks the callout about everybody: it is in its file.

    A client without a certificate would be refused by the callout as well.
    """
    tls = ServerTls(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem")
    secrets = load_or_create(tmp_path / "secrets.json")
    text = render(Listen("127.0.0.1", 8883, 4222), tls, secrets, tmp_path / "store")
    assert f'ca_file: "{tmp_path / "ca.pem"}", verify: true' in text
    assert f'auth_callout {{ issuer: "{secrets.issuer_public}", account: AUTH, auth_users: [ auth, sys ] }}' in text


def test_grant_ends_with_the_certificate() -> None:
    """BRK-23: the granted user expires when the certificate does, in the account DEV, with exactly its permissions."""
    seed = nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_ACCOUNT)
    issuer = Issuer(nkeys.from_seed(bytearray(seed)))
    answer = issuer.admit(Request("N1", "U1", "dev-1", "", 2_000_000_000), permissions("dev-1"), 1_900_000_000)
    outer = _claims(answer)
    assert (outer["aud"], outer["sub"]) == ("N1", "U1")
    user = _claims(outer["nats"]["jwt"].encode())
    assert (user["aud"], user["name"], user["exp"]) == ("DEV", "dev-1", 2_000_000_000)
    assert user["nats"]["pub"] == {"allow": [f"o1.{ids.shard('dev-1')}.dev-1.up.>"]}


def _claims(token: bytes) -> dict[str, Any]:
    part = token.split(b".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    return claims
