"""A P-256 key that never leaves its PKCS#11 token (https://docs.oasis-open.org/pkcs11/pkcs11-base/v2.40/).

1. `python-pkcs11` is loaded here, when a token is used, and nowhere else.
2. A session lasts one signature: the token is logged out of in between.
3. The public key is read from the token once; the signature is checked against it before it is given out.
"""

from __future__ import annotations

import hashlib
import importlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import SecretsHandler, Signature, Signer, SSlibKey

from outrider_protocol.signing.errors import TokenError
from outrider_protocol.signing.uri import TokenUri


class TokenSigner(Signer):
    """Signs with `uri`'s key through the library `module`."""

    def __init__(self, uri: TokenUri, module: str, pin: bytes) -> None:
        self._uri, self._module, self._pin = uri, module, pin.decode()
        self._public = SSlibKey.from_crypto(self._run(self._read_public))

    @property
    def public_key(self) -> SSlibKey:
        """The public key in TUF's form."""
        return self._public

    @classmethod
    def from_priv_key_uri(cls, *_: Any, secrets_handler: SecretsHandler | None = None) -> TokenSigner:
        """Not offered: securesystemslib's addresses are not RFC 7512's."""
        raise NotImplementedError

    def sign(self, payload: bytes) -> Signature:
        """Sign; raises `TokenError`."""
        der = self._run(lambda session: self._sign(session, payload))
        signature = Signature(self._public.keyid, der.hex())
        try:
            self._public.verify_signature(signature, payload)
        except UnverifiedSignatureError as error:
            raise TokenError(f"{self._uri.name}: the private key does not belong to the public one") from error
        return signature

    def _run(self, work: Any) -> Any:
        pkcs11 = _library()
        serial = self._uri.serial.encode() if self._uri.serial else None
        chosen = {"token_label": self._uri.token, "token_serial": serial}
        wanted = {name: value for name, value in chosen.items() if value is not None}
        try:
            library = pkcs11.lib(self._module)
            token = library.get_token(token_flags=pkcs11.TokenFlag.TOKEN_INITIALIZED, **wanted)
            with token.open(user_pin=self._pin) as session:
                return work(session)
        except (pkcs11.exceptions.PKCS11Error, RuntimeError, ValueError) as error:
            said = str(error) or type(error).__name__
            raise TokenError(f"{self._uri.name}: {said}") from error

    def _find(self, session: Any, kind: str) -> Any:
        pkcs11 = _library()
        wanted = {"label": self._uri.key_label, "id": self._uri.key_id}
        chosen = {name: value for name, value in wanted.items() if value is not None}
        return session.get_key(pkcs11.ObjectClass[kind], pkcs11.KeyType.EC, **chosen)

    def _read_public(self, session: Any) -> EllipticCurvePublicKey:
        der = importlib.import_module("pkcs11.util.ec").encode_ec_public_key(self._find(session, "PUBLIC_KEY"))
        key = load_der_public_key(der)
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
            raise TokenError(f"{self._uri.name}: not a P-256 key")
        return key

    def _sign(self, session: Any, payload: bytes) -> bytes:
        mechanism = _library().Mechanism.ECDSA
        raw = self._find(session, "PRIVATE_KEY").sign(hashlib.sha256(payload).digest(), mechanism=mechanism)
        return bytes(importlib.import_module("pkcs11.util.ec").encode_ecdsa_signature(raw))


def _library() -> Any:
    try:
        return importlib.import_module("pkcs11")
    except ImportError as error:
        raise TokenError("python-pkcs11 is not installed: the extra `pkcs11` brings it") from error
