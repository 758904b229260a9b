"""Revocation lists, for brokers that ask nobody at a connect (docs/spec/broker.md, BRK-26).

1. A list names certificates by serial number, is signed by the issuer and says when the next one is due.
2. What has ended is left out: it is refused by its own date.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from outrider_fleet.pki.certificate import Signer

LIST_DAYS: Final = (
    30  # as long as a device certificate lives: a fleet whose server is away that long has no devices left
)


@dataclass(frozen=True)
class Revoked:
    """One certificate that is no longer good, since `at_ms` (ms UTC)."""

    serial: int
    at_ms: int


def serial_of(certificate_pem: str) -> int:
    """The serial number of a certificate."""
    return x509.load_pem_x509_certificate(certificate_pem.encode()).serial_number


def revocation_list(by: Signer, revoked: Iterable[Revoked], now: dt.datetime) -> bytes:
    """The PEM of a list that holds from now on."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(by.name)
    builder = builder.last_update(now - dt.timedelta(hours=1)).next_update(now + dt.timedelta(days=LIST_DAYS))
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.serial)
        at = dt.datetime.fromtimestamp(each.at_ms // 1000, dt.UTC)
        builder = builder.add_revoked_certificate(entry.revocation_date(at).build())
    return builder.sign(by.key, hashes.SHA256()).public_bytes(Encoding.PEM)
