"""Builds X.509 certificates; pure apart from signing (keys and time are arguments).

1. A leaf is never an authority, and has exactly one extended key usage.
2. The issuing authority may issue leaves only (path length 0).
"""

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
BACKDATE: Final = dt.timedelta(hours=1)  # for devices whose clock runs late


@dataclass(frozen=True)
class Signer:
    """Who signs: the name and key of an authority."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Validity:
    """From an hour before `start` until `days` after it."""

    start: dt.datetime
    days: float


def name(common_name: str) -> x509.Name:
    """A subject of one common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def authority(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, by: Signer, validity: Validity, *, path_length: int
) -> x509.Certificate:
    """A certificate that may sign others, `path_length` authorities deep."""
    builder = _builder(subject, key, by, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    return builder.add_extension(_usage(signs_certificates=True), critical=True).sign(by.key, hashes.SHA256())


def leaf(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    by: Signer,
    validity: Validity,
    *,
    purpose: x509.ObjectIdentifier,
    hosts: Iterable[str] = (),
) -> x509.Certificate:
    """A certificate for one purpose (`CLIENT` or `SERVER`); `hosts` are names and addresses of a server."""
    builder = _builder(subject, key, by, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    names = [_general_name(host) for host in hosts]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(by.key, hashes.SHA256())


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, by: Signer, validity: Validity
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=by.name, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(validity.start - BACKDATE)
    builder = builder.not_valid_after(validity.start + dt.timedelta(days=validity.days))
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
    return builder.add_extension(issuer, critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
