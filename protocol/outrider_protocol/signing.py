"""Making signatures: keys in files, DSSE envelopes, TUF roles. Forbidden on devices.

1. Every key is Ed25519, kept as PKCS#8 PEM, encrypted when a passphrase is given.
2. A key file is created with mode 0600 and never overwritten.
3. A TUF role's metadata is signed anew as a whole: version + 1, expiry from the caller's clock.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from outrider_protocol import dsse, order
from outrider_protocol.errors import ProtocolError

Role = TypeVar("Role", Root, Targets, Snapshot, Timestamp)
_COMPACT = JSONSerializer(compact=True)


class KeyFileError(ProtocolError):
    """A key file cannot be read or written."""

    hint = "Give the path of a PKCS#8 PEM Ed25519 key, and its passphrase where it has one."


def generate() -> Ed25519PrivateKey:
    """A new private key."""
    return Ed25519PrivateKey.generate()


def save_private(key: Ed25519PrivateKey, path: Path, passphrase: bytes | None = None) -> None:
    """Write PKCS#8 PEM with mode 0600; raises `KeyFileError` where the file exists."""
    cipher = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    with os.fdopen(fd, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())


def load_private(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Read a private key; raises `KeyFileError`."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), passphrase)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: not an Ed25519 key")
    return key


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The raw 32-byte public key."""
    return key.public_key().public_bytes_raw()


def tuf_key(key: Ed25519PrivateKey) -> SSlibKey:
    """The public key in TUF's form."""
    return SSlibKey.from_crypto(key.public_key())


def sign_order(payload: order.Order, keys: Iterable[Ed25519PrivateKey]) -> bytes:
    """Return the envelope of an order, signed by each key."""
    data = payload.encode()
    signed = dsse.pae(order.TYPE, data)
    signatures = tuple((dsse.key_id(public_bytes(key)), key.sign(signed)) for key in keys)
    return dsse.Envelope(order.TYPE, data, signatures).encode()


def sign_role(role: Role, keys: Iterable[Ed25519PrivateKey]) -> bytes:
    """Return a TUF role's metadata file, signed by each key; version and expiry are the caller's."""
    metadata: Metadata[Role] = Metadata(role)
    for key in keys:
        metadata.sign(CryptoSigner(key, tuf_key(key)), append=True)
    return metadata.to_bytes(_COMPACT)


def add_targets(
    current: bytes | None, targets: Iterable[TargetFile], expires: datetime, keys: Iterable[Ed25519PrivateKey]
) -> bytes:
    """Sign a new version of a delegated targets role that also lists `targets`."""
    role = Metadata[Targets].from_bytes(current).signed if current else Targets()
    role.version += 1 if current else 0
    role.expires = expires
    role.targets.update({target.path: target for target in targets})
    return sign_role(role, keys)


def artifact_target(path: str, manifest: bytes, counter: int) -> TargetFile:
    """The target entry of one artifact: its manifest's hash and length, and the release's counter."""
    target = TargetFile.from_data(path, manifest, ["sha256"])
    target.unrecognized_fields["custom"] = {"counter": counter}
    return target
