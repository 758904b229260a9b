"""Envelopes that the director and the audit key sign (DSSE with Ed25519)."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from outrider_protocol import dsse, order
from outrider_protocol.signing.keys import public_bytes


def sign_envelope(kind: str, payload: bytes, keys: Iterable[Ed25519PrivateKey]) -> bytes:
    """Return the envelope of a payload of type `kind`, signed by each key."""
    signed = dsse.pae(kind, payload)
    signatures = tuple((dsse.key_id(public_bytes(key)), key.sign(signed)) for key in keys)
    return dsse.Envelope(kind, payload, signatures).encode()


def sign_order(payload: order.Order, keys: Iterable[Ed25519PrivateKey]) -> bytes:
    """Return the envelope of an order, signed by each key."""
    return sign_envelope(order.TYPE, payload.encode(), keys)
