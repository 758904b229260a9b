"""The certificate authority of a fleet: an offline root, an online issuer.

1. The root signs the issuer, once; only the issuer's key is read while the server runs.
2. The common name of a device certificate is the id that the server decided on, never the request's.
3. Device certificates are clientAuth only, server certificates serverAuth only.
4. `_fleet`, the server's own client name, is outside the device alphabet and issued by `issue_fleet` alone.
5. Revocation is by admission: the embedded broker asks the server at every connect; for others there is a list of
   serial numbers (docs/spec/broker.md).

    ca = CertificateAuthority.create(home / "ca", fleet="workshop")
    pem = ca.issue_device(csr_pem, "dev-1", days=30)
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from outrider_fleet.pki import certificate, csr
from outrider_fleet.pki.errors import AuthorityMissingError
from outrider_fleet.pki.files import given_directory, private_directory, write_private, write_public
from outrider_fleet.pki.revocation import Revoked, revocation_list
from outrider_protocol import ids

FLEET_NAME: Final = "_fleet"
CANARY_NAME: Final = "_canary"
DEVICE_DAYS: Final = 30
SERVER_DAYS: Final = 397
ROOT_DAYS: Final = 3650
LOOPBACK: Final = ("127.0.0.1", "localhost")
Clock = Callable[[], dt.datetime]


def utc_now() -> dt.datetime:
    """The wall clock in UTC."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class KeyPair:
    """A private key and its certificate chain (leaf first), both PEM."""

    key_pem: bytes
    certificate_pem: bytes

    def write(self, directory: Path, stem: str) -> tuple[Path, Path]:
        """Store as `<stem>.key` (0600) and `<stem>.pem`; returns (certificate path, key path)."""
        key, chain = directory / f"{stem}.key", directory / f"{stem}.pem"
        write_private(key, self.key_pem)
        write_public(chain, self.certificate_pem)
        return chain, key


@dataclass(frozen=True)
class CertificateAuthority:
    """Issues the certificates of one fleet. `clock` decides when they start."""

    root: x509.Certificate
    issuer: x509.Certificate
    issuer_key: ec.EllipticCurvePrivateKey
    clock: Clock = utc_now

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        fleet: str = "outrider",
        root_directory: Path | None = None,
        passphrase: bytes | None = None,
        clock: Clock = utc_now,
    ) -> "CertificateAuthority":
        """Make root and issuer in an empty `directory`; the root's key goes to `root_directory` when given.

        With a passphrase the root's key is encrypted. Raises `AuthorityMissingError` where an authority exists already.
        """
        if (directory / "root.pem").exists():
            raise AuthorityMissingError(f"{directory} holds an authority already")
        private_directory(directory)
        offline = given_directory(root_directory or directory)
        root_key, issuer_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        validity = certificate.Validity(clock(), ROOT_DAYS)
        by_root = certificate.Signer(certificate.name(f"{fleet} root"), root_key)
        root = certificate.authority(by_root.name, root_key.public_key(), by_root, validity, path_length=1)
        issuer = certificate.authority(
            certificate.name(f"{fleet} issuer"), issuer_key.public_key(), by_root, validity, path_length=0
        )
        write_private(offline / "root.key", _key_pem(root_key, passphrase))
        KeyPair(_key_pem(issuer_key), _pem(issuer)).write(directory, "issuer")
        write_public(directory / "ca.pem", _pem(issuer) + _pem(root))
        write_public(directory / "root.pem", _pem(root))
        return cls(root, issuer, issuer_key, clock)

    @classmethod
    def load(cls, directory: Path, *, clock: Clock = utc_now) -> "CertificateAuthority":
        """Read root and issuer certificates and the issuer's key; raises `AuthorityMissingError`."""
        try:
            root, issuer = (
                x509.load_pem_x509_certificate((directory / f"{stem}.pem").read_bytes()) for stem in ("root", "issuer")
            )
            key = load_pem_private_key((directory / "issuer.key").read_bytes(), None)
        except (OSError, ValueError) as error:
            raise AuthorityMissingError(f"{directory}: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise AuthorityMissingError(f"{directory}/issuer.key is not an elliptic-curve key")
        return cls(root, issuer, key, clock)

    @property
    def ca_pem(self) -> str:
        """What a peer trusts: issuer and root."""
        return (_pem(self.issuer) + _pem(self.root)).decode()

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the root certificate (DER): what an enrolment token carries."""
        return hashlib.sha256(self.root.public_bytes(Encoding.DER)).hexdigest()

    def issue_device(self, csr_pem: str, device: str, days: float = DEVICE_DAYS) -> str:
        """Sign a device's request under the id `device`; returns the PEM certificate.

        Raises `RequestRefusedError` for a bad request and `MalformedError` for a bad id.
        """
        subject = certificate.name(ids.device_id(device))  # [PKI-2]
        signed = certificate.leaf(
            subject, csr.public_key(csr_pem), self._signer, self._from_now(days), purpose=certificate.CLIENT
        )
        return _pem(signed).decode()

    def issue_fleet(self, days: float = SERVER_DAYS) -> KeyPair:
        """A client certificate of the server itself, named `_fleet`, with a new key."""
        return self._pair(certificate.name(FLEET_NAME), days, purpose=certificate.CLIENT, hosts=())

    def issue_client(self, name: str, days: float) -> KeyPair:
        """A short-lived client certificate with a new key: for a device's name, or the canary's, used by the server."""
        if name != CANARY_NAME:
            ids.device_id(name)  # [PKI-3]
        return self._pair(certificate.name(name), days, purpose=certificate.CLIENT, hosts=())

    def revocation_list(self, revoked: Iterable[Revoked]) -> bytes:
        """A signed list of certificates that are no longer good, PEM."""
        return revocation_list(self._signer, revoked, self.clock())

    def issue_server(
        self, hosts: Sequence[str] = LOOPBACK, days: float = SERVER_DAYS, *, with_root: bool = False
    ) -> KeyPair:
        """A server certificate for names and addresses, with a new key.

        With `with_root` the chain shows the root too: who knows its fingerprint needs nothing else.
        """
        pair = self._pair(certificate.name(hosts[0]), days, purpose=certificate.SERVER, hosts=hosts)
        return replace(pair, certificate_pem=pair.certificate_pem + _pem(self.root)) if with_root else pair

    def _pair(
        self, subject: x509.Name, days: float, *, purpose: x509.ObjectIdentifier, hosts: Sequence[str]
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        signed = certificate.leaf(
            subject, key.public_key(), self._signer, self._from_now(days), purpose=purpose, hosts=hosts
        )
        return KeyPair(_key_pem(key), _pem(signed) + _pem(self.issuer))

    @property
    def _signer(self) -> certificate.Signer:
        return certificate.Signer(self.issuer.subject, self.issuer_key)

    def _from_now(self, days: float) -> certificate.Validity:
        return certificate.Validity(self.clock(), days)


def _pem(value: x509.Certificate) -> bytes:
    return value.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    cipher = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, cipher)
