"""What is read from a certificate signing request: its public key, and nothing else.

1. At most `REQUEST_BYTES`; the key is P-256; the request is signed with that key.
2. Subject, extensions and attributes of the request are ignored: the authority writes its own.
"""

import hashlib
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from outrider_fleet.pki.errors import RequestRefusedError

REQUEST_BYTES: Final = 8192


def public_key(csr_pem: str) -> ec.EllipticCurvePublicKey:
    """Return the P-256 key of a request; raises `RequestRefusedError`."""
    if len(csr_pem) > REQUEST_BYTES:  # [PKI-1]
        raise RequestRefusedError(f"request of {len(csr_pem)} characters, at most {REQUEST_BYTES} are read")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        key = request.public_key()
        valid = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RequestRefusedError(f"not a certificate signing request: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RequestRefusedError("the key of a device is P-256")
    if not valid:
        raise RequestRefusedError("the request is not signed with its own key")
    return key


def key_sha256(key: ec.EllipticCurvePublicKey) -> str:
    """Hex SHA-256 of the key's SubjectPublicKeyInfo (DER): what an order's audience names."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def request_key_sha256(csr_pem: str) -> str:
    """The key hash of a request; raises `RequestRefusedError`."""
    return key_sha256(public_key(csr_pem))


def certificate_key_sha256(certificate_pem: str) -> str:
    """The key hash of a certificate."""
    key = x509.load_pem_x509_certificate(certificate_pem.encode()).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
