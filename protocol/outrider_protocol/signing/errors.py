"""What can be wrong with a private key's place."""

from __future__ import annotations

from outrider_protocol.errors import ProtocolError


class KeyFileError(ProtocolError):
    """A key file cannot be read or written."""

    hint = "Give the path of a PKCS#8 PEM key (Ed25519 or P-256), and its passphrase where it has one."


class PassphraseError(KeyFileError):
    """The passphrase of a key, or the PIN of a token, is missing, empty or cannot be read."""

    hint = (
        "Set OUTRIDER_PASSPHRASE_FILE (a file of one line) or OUTRIDER_PASSPHRASE; for a token OUTRIDER_PIN_FILE or "
        "OUTRIDER_PIN; at a terminal you are asked."
    )


class TokenError(KeyFileError):
    """A PKCS#11 token, its module or the key on it cannot be used."""

    hint = (
        "Form: pkcs11:token=NAME;object=KEY?module-path=/path/to/module.so (or OUTRIDER_PKCS11_MODULE); the key is a "
        "P-256 key whose public half lies beside it on the token."
    )
