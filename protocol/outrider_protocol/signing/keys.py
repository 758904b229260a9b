"""Private keys in files.

1. A key is Ed25519, or P-256 where a token's kind of key shall lie in a file; PKCS#8 PEM, encrypted when a
   passphrase is given.
2. A key file is created with mode 0600 and never overwritten.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import SSlibKey

from outrider_protocol.signing.errors import KeyFileError, PassphraseError

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey


def generate() -> Ed25519PrivateKey:
    """A new private key."""
    return Ed25519PrivateKey.generate()


def save_private(key: PrivateKey, path: Path, passphrase: bytes | None = None) -> None:
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


def read_private(path: Path, passphrase: bytes | None = None) -> PrivateKey:
    """Read a private key; raises `KeyFileError`, `PassphraseError` where it is encrypted and no passphrase is given."""
    try:
        pem = path.read_bytes()
        if passphrase is None and b"ENCRYPTED" in pem:
            raise PassphraseError(f"{path} is encrypted")
        key = serialization.load_pem_private_key(pem, passphrase if b"ENCRYPTED" in pem else None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path}: {error}") from error
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key
    raise KeyFileError(f"{path}: neither an Ed25519 nor a P-256 key")


def load_private(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Read an Ed25519 key; raises `KeyFileError`."""
    key = read_private(path, passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: not an Ed25519 key")
    return key


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The raw 32-byte public key."""
    return key.public_key().public_bytes_raw()


def tuf_key(key: PrivateKey) -> SSlibKey:
    """The public key in TUF's form."""
    return SSlibKey.from_crypto(key.public_key())
