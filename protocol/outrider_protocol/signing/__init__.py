"""Making signatures: where private keys are, DSSE envelopes, TUF roles. Forbidden on devices.

1. A key is an Ed25519 or P-256 key in a PKCS#8 file, or a P-256 key that never leaves its PKCS#11 token.
2. Whoever signs names a place (a path or a `pkcs11:` address) and gets a signer; nothing else looks at places.
3. A TUF role's metadata is signed anew as a whole: version + 1, expiry from the caller's clock.

    signer = open_signer("offline/targets.pem", Secrets(os.environ))
    data = sign_role(targets, [signer])
"""

from securesystemslib.signer import Signer

from outrider_protocol.signing.documents import add_targets, artifact_target, sign_role
from outrider_protocol.signing.envelopes import sign_envelope, sign_order
from outrider_protocol.signing.errors import KeyFileError, PassphraseError, TokenError
from outrider_protocol.signing.keys import PrivateKey, generate, load_private, public_bytes, save_private, tuf_key
from outrider_protocol.signing.passphrases import Secrets
from outrider_protocol.signing.places import is_token, open_signer, public_from, public_pem
from outrider_protocol.signing.uri import TokenUri

__all__ = [
    "KeyFileError",
    "PassphraseError",
    "PrivateKey",
    "Secrets",
    "Signer",
    "TokenError",
    "TokenUri",
    "add_targets",
    "artifact_target",
    "generate",
    "is_token",
    "load_private",
    "open_signer",
    "public_bytes",
    "public_from",
    "public_pem",
    "save_private",
    "sign_envelope",
    "sign_order",
    "sign_role",
    "tuf_key",
]
