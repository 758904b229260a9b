"""Reads authorization requests of NATS and writes the answers; pure apart from signing.

1. A request admits nobody: its sender is the broker, known by the AUTH account, and it may be malformed.
2. The name of a client is the common name of its verified certificate **and** its MQTT client id; unequal is denied.
3. What is granted ends with the certificate.

Format: https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_callout
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from outrider_fleet.broker.permissions import Permissions
from outrider_fleet.pki.csr import certificate_key_sha256
from outrider_protocol import canonical
from outrider_protocol.errors import MalformedError
from outrider_protocol.fields import Fields

REQUEST_BYTES: Final = 1024 * 1024
_HEADER: Final = b'{"typ":"JWT","alg":"ed25519-nkey"}'


@dataclass(frozen=True)
class Request:
    """One client that asks to connect, as the broker saw it; `client` is None when it proved no name."""

    server_id: str
    user_nkey: str
    client: str | None
    key_sha256: str
    expires_s: int


def read_request(token: bytes) -> Request:
    """Read the broker's request (a JWT); raises `MalformedError`."""
    parts = token.split(b".")
    if len(parts) != 3:
        raise MalformedError("an authorization request is a JWT")
    body = canonical.decode(_unb64(parts[1]), REQUEST_BYTES, "authorization request")
    nats = Fields(body, "request").object("nats")
    client, key_sha256, expires_s = _proven_name(nats)
    return Request(nats.object("server_id").text("id"), nats.text("user_nkey"), client, key_sha256, expires_s)


def _proven_name(nats: Fields) -> tuple[str | None, str, int]:
    info = nats.object("client_info").value
    chains = (nats.value.get("client_tls") or {}).get("verified_chains") or []
    if info.get("type") != "mqtt" or not chains or not chains[0]:  # [BRK-2]
        return None, "", 0
    pem = str(chains[0][0])
    leaf = _certificate(pem)
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    common_name = str(names[0].value) if len(names) == 1 else None
    if common_name != info.get("mqtt_id"):  # [BRK-3]
        return None, "", 0
    return common_name, certificate_key_sha256(pem), int(leaf.not_valid_after_utc.timestamp())


def _certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise MalformedError(f"client certificate: {error}") from error


@dataclass(frozen=True)
class Issuer:
    """Signs answers; `keypair` is an nkeys account key."""

    keypair: Any

    def admit(self, request: Request, allowed: Permissions, now_s: int) -> bytes:
        """The answer that lets `request` in with these permissions, in the account DEV."""
        user = {
            "aud": "DEV",
            "sub": request.user_nkey,
            "name": request.client,
            "exp": request.expires_s,
            "nats": {
                "type": "user",
                "version": 2,
                "subs": -1,
                "data": -1,
                "payload": -1,
                "pub": {"allow": list(allowed.publish)},
                "sub": {"allow": list(allowed.subscribe)},
            },
        }
        return self._answer(request, {"jwt": self._sign(user, now_s).decode()}, now_s)

    def deny(self, request: Request, now_s: int) -> bytes:
        """The answer that refuses `request`; it tells the client nothing."""
        return self._answer(request, {"error": "denied"}, now_s)

    def _answer(self, request: Request, verdict: dict[str, Any], now_s: int) -> bytes:
        nats = {"type": "authorization_response", "version": 2, **verdict}
        return self._sign({"aud": request.server_id, "sub": request.user_nkey, "nats": nats}, now_s)

    def _sign(self, claims: dict[str, Any], now_s: int) -> bytes:
        body: dict[str, Any] = {"iss": self.keypair.public_key.decode(), "iat": now_s, **claims}
        body["jti"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        signed = _b64(_HEADER) + b"." + _b64(json.dumps(body).encode())
        return signed + b"." + _b64(self.keypair.sign(signed))


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unb64(data: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))
    except ValueError as error:
        raise MalformedError(f"not base64: {error}") from error
