"""DSSE envelopes (https://github.com/secure-systems-lab/dsse, v1.0.2) with Ed25519 signatures.

1. The signature covers the pre-authentication encoding: type and payload, lengths first.
2. A key id is the hex SHA-256 of the raw public key: it cannot be claimed.
3. Verifying loads `cryptography` when it is called, never at import.

>>> pae("t", b"body")
b'DSSEv1 1 t 4 body'
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from outrider_protocol import canonical
from outrider_protocol.errors import MalformedError, SignatureError
from outrider_protocol.fields import Fields


@dataclass(frozen=True)
class Envelope:
    """A payload, its type and the signatures over both ((key id, signature) pairs)."""

    payload_type: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    def encode(self) -> bytes:
        """The canonical bytes of the envelope."""
        return canonical.encode(
            {
                "payloadType": self.payload_type,
                "payload": _b64(self.payload),
                "signatures": [{"keyid": keyid, "sig": _b64(signature)} for keyid, signature in self.signatures],
            }
        )

    @classmethod
    def decode(cls, data: bytes, limit_bytes: int) -> Envelope:
        """Parse an envelope; nothing in it is trusted yet."""
        fields = Fields(canonical.decode(data, limit_bytes, "envelope"), "envelope")
        signatures = tuple((item.text("keyid"), _unb64(item.text("sig"))) for item in fields.objects("signatures"))
        return cls(fields.text("payloadType"), _unb64(fields.text("payload", limit=limit_bytes)), signatures)


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def key_id(public: bytes) -> str:
    """The key id of a raw 32-byte Ed25519 public key."""
    return hashlib.sha256(public).hexdigest()


def verify(envelope: Envelope, payload_type: str, keys: Mapping[str, bytes]) -> bytes:
    """Return the payload if one of `keys` (id → raw public key) signed it as `payload_type`.

    Raises `SignatureError`; the number of signatures looked at is bounded by the number of keys.
    """
    if envelope.payload_type != payload_type:
        raise SignatureError(f"envelope of type {envelope.payload_type!r}, expected {payload_type!r}")
    signed = pae(envelope.payload_type, envelope.payload)
    candidates = ((keys[keyid], signature) for keyid, signature in envelope.signatures[:8] if keyid in keys)
    if not _any_valid(signed, candidates):
        raise SignatureError(f"{payload_type}: no valid signature by a trusted key")
    return envelope.payload


def _any_valid(signed: bytes, candidates: Iterable[tuple[bytes, bytes]]) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    for public, signature in candidates:
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
        except InvalidSignature:
            continue
        return True
    return False


def _b64(data: bytes) -> str:
    return base64.standard_b64encode(data).decode()


def _unb64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # `binascii.Error` is one; not ASCII is another
        raise MalformedError(f"not base64: {error}") from error
