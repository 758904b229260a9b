"""From a place to a key: a path is a PEM file, `pkcs11:…` a key on a token.

1. A private key is only ever opened to sign; who verifies opens the public half.
2. Public halves are files as well (SubjectPublicKeyInfo, PEM), or are read from the token.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

from outrider_protocol.signing.errors import KeyFileError, TokenError
from outrider_protocol.signing.keys import PrivateKey, read_private, tuf_key
from outrider_protocol.signing.passphrases import Secrets
from outrider_protocol.signing.uri import SCHEME, TokenUri

_MODULE = "OUTRIDER_PKCS11_MODULE"


def is_token(place: str | Path) -> bool:
    """Whether a place is on a token.

    >>> is_token("pkcs11:object=root-1"), is_token("offline/root-1.pem")
    (True, False)
    """
    return str(place).startswith(SCHEME)


def open_signer(place: str | Path, secrets: Secrets) -> Signer:
    """Whatever signs with the private key at `place`; raises `KeyFileError`, `PassphraseError` or `TokenError`."""
    if is_token(place):
        return _token_signer(str(place), secrets)
    path = Path(place)
    key = read_private(path, secrets.passphrase(path) if _is_encrypted(path) else None)
    return CryptoSigner(key, tuf_key(key))


def _is_encrypted(path: Path) -> bool:
    try:
        return b"ENCRYPTED" in path.read_bytes()
    except OSError:
        return False  # `read_private` says what is wrong with it


def _token_signer(place: str, secrets: Secrets) -> Signer:
    from outrider_protocol.signing.token import TokenSigner

    uri = TokenUri.parse(place)
    module = uri.module or secrets.environ.get(_MODULE)
    if not module:
        raise TokenError(f"{uri.name}: which library? Neither module-path nor {_MODULE} says it")
    return TokenSigner(uri, module, secrets.pin(uri))


def public_from(place: str | Path, secrets: Secrets) -> SSlibKey:
    """The public key at `place`: a public PEM file, or a token's key; raises `KeyFileError`."""
    if is_token(place):
        signer = _token_signer(str(place), secrets)
        return _as_sslib(signer)
    path = Path(place)
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{path}: {error}") from error
    if isinstance(key, Ed25519PublicKey) or (isinstance(key, EllipticCurvePublicKey) and _is_p256(key)):
        return SSlibKey.from_crypto(key)
    raise KeyFileError(f"{path}: neither an Ed25519 nor a P-256 public key")


def public_pem(key: PrivateKey) -> bytes:
    """The public half as PEM."""
    kind, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(kind, form)


def _as_sslib(signer: Signer) -> SSlibKey:
    key = signer.public_key
    if not isinstance(key, SSlibKey):
        raise KeyFileError(f"a key of kind {type(key).__name__} cannot be delegated to")
    return key


def _is_p256(key: EllipticCurvePublicKey) -> bool:
    return isinstance(key.curve, SECP256R1)
