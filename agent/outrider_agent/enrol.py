"""Enrolment: this device makes its key, proves itself with a token, and learns whom to trust.

1. The P-256 key is made here and never leaves; only a signing request travels.
2. The server is reached by plain HTTP on loopback alone; else by HTTPS, pinned to the CA whose SHA-256 ends the token.
3. The answer's TUF root is believed only when it is the one given out of band (`--trust-root FILE` or `sha256:…`);
   trust on first use must be asked for by name.
4. The certificate must be for this device and this key, and issued by the CA that came with it.
5. Nothing is written before every check has passed; identity files are 0600, and replaced all at one moment.
6. A device that is enrolled already refuses, unless it is asked to enrol anew.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import platform
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from outrider_agent import VERSION, enrolled
from outrider_agent.clock import Now
from outrider_agent.config import Broker, Device, Server, default_toml, is_address
from outrider_agent.durable import Durable
from outrider_agent.errors import EnrolmentError, InputError, UnreachableError
from outrider_agent.paths import Paths
from outrider_agent.tls import client_context
from outrider_agent.update import identity as identity_file
from outrider_protocol import canonical, ids, limits
from outrider_protocol.errors import ProtocolError
from outrider_protocol.messages import EnrolRequest, EnrolResponse
from outrider_protocol.trust import Identity

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

TIMEOUT_S: Final = 20.0
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_ADDRESS_HINT: Final = "Give https://HOST:PORT (http:// on loopback alone)."


@dataclass(frozen=True)
class TrustRoot:
    """The root of trust as it was given out of band: the digest it must have, or None for trust on first use."""

    sha256: str | None

    @classmethod
    def parse(cls, text: str) -> TrustRoot:
        """`sha256:<hex>` or a file holding the root's bytes; raises `InputError`."""
        if text.startswith("sha256:"):
            try:
                return cls(ids.hex_of(text))
            except ProtocolError as error:
                raise InputError(f"--trust-root: {error}", "Give sha256: and 64 hex digits, or a file.") from error
        try:
            return cls(hashlib.sha256(Path(text).read_bytes()).hexdigest())
        except OSError as error:
            hint = "Give the root.json that the fleet's operator handed you, or sha256:<its digest>."
            raise InputError(f"--trust-root {text}: {error.strerror}", hint) from error

    def check(self, root: str) -> None:
        """Raise `EnrolmentError` unless the offered root is the expected one."""
        found = hashlib.sha256(root.encode()).hexdigest()
        if self.sha256 is not None and found != self.sha256:
            raise EnrolmentError(
                f"the server's root of trust is sha256:{found}, expected sha256:{self.sha256}",
                "This is not the fleet that you were given the root of: nothing was written.",
            )


@dataclass(frozen=True)
class Request:
    """What a person asks for."""

    server: str
    token: str
    device: str
    profile: str
    trust_root: TrustRoot
    again: bool = False


def enrol(request: Request, paths: Paths, disk: Durable) -> Identity:
    """Enrol this device; raises `InputError`, `EnrolmentError`, `UnreachableError` or `DurableError`.

    After each of the first three nothing was written; where nothing can be written, nothing was sent.
    """
    enrolled.finish(paths, disk)
    if (paths.identity / identity_file.FILE).exists() and not request.again:
        raise InputError(f"{paths.identity}: this device is enrolled already", "Say --again to replace its identity.")
    _check_names(request)
    enrolled.check_places(paths)
    key = _new_key()
    message = EnrolRequest(request.token, request.device, request.profile, _csr(key, request.device), facts())
    answer = _exchange(request, message)
    request.trust_root.check(answer.root)
    _check_certificate(answer, key, request)
    found = Identity(answer.device, key_sha256(key), answer.fleet, request.profile)
    _write(paths, disk, request, key, answer, found)
    return found


def _check_names(request: Request) -> None:
    try:
        ids.device_id(request.device)
        ids.profile_name(request.profile)
    except ProtocolError as error:
        raise InputError(str(error), "A device id is a-z, 0-9 and -, at most 64 characters.") from error


def facts() -> dict[str, Any]:
    """What the server may know about this machine; nothing personal."""
    return {
        "agent_version": VERSION,
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "cpus": os.cpu_count() or 1,
    }


# -------------------------------------------------------------------- keys


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def key_sha256(key: EllipticCurvePrivateKey) -> str:
    """Hex SHA-256 of the key's SubjectPublicKeyInfo (DER): how orders name this device's key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def _csr(key: EllipticCurvePrivateKey, device: str) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _check_certificate(answer: EnrolResponse, key: EllipticCurvePrivateKey, request: Request) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509.oid import NameOID

    from outrider_agent.renewal import is_issued

    try:
        certificate = x509.load_pem_x509_certificate(answer.certificate_pem.encode())
        authorities = x509.load_pem_x509_certificates(answer.ca_pem.encode())
    except ValueError as error:
        raise EnrolmentError(f"the server's certificates cannot be read: {error}") from error
    names = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    der = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    same_key = certificate.public_key().public_bytes(*der) == key.public_key().public_bytes(*der)
    if names != [request.device] or answer.device != request.device or not same_key:
        hint = "The server answered for another device: nothing was written."
        raise EnrolmentError(f"the certificate is for {names}, not for {request.device} and its key", hint)
    if not is_issued(certificate, authorities):
        hint = "The server's certificates do not fit together: nothing was written."
        raise EnrolmentError("the certificate was not issued by the CA that came with it", hint)


def _write(
    paths: Paths,
    disk: Durable,
    request: Request,
    key: EllipticCurvePrivateKey,
    answer: EnrolResponse,
    found: Identity,
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    broker = Broker(answer.broker_host, answer.broker_port)
    toml = default_toml(Device(answer.device, request.profile), broker, Server(request.server))
    enrolled.commit(
        paths,
        disk,
        {
            "device.key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "device.pem": answer.certificate_pem.encode(),
            "ca.pem": answer.ca_pem.encode(),
            identity_file.ROOT: answer.root.encode(),
            identity_file.FILE: identity_file.encode(found),
            enrolled.CONFIG: toml.encode(),
        },
    )


# -------------------------------------------------------------------- HTTP


def _exchange(request: Request, message: EnrolRequest) -> EnrolResponse:
    if not is_address(request.server):
        raise InputError(f"{request.server!r} is no server address", _ADDRESS_HINT)
    url = urlsplit(request.server)
    connection = _connection(url, request.token)
    try:
        connection.request("POST", f"{url.path.rstrip('/')}/api/v1/enrol", message.encode(), _headers())
        with connection.getresponse() as response:
            body = response.read(3 * limits.ROOT_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{request.server}: {error}") from error
    finally:
        connection.close()
    if response.status not in {http.HTTPStatus.OK, http.HTTPStatus.CREATED}:
        raise _refusal(response.status, body)
    try:
        return EnrolResponse.decode(body)
    except ProtocolError as error:
        raise EnrolmentError(f"{request.server} answered no enrolment: {error}", error.hint) from error


def _headers() -> dict[str, str]:
    return {"Content-Type": "application/json", "User-Agent": f"outrider-agent/{VERSION}"}


def _refusal(status: int, body: bytes) -> EnrolmentError:
    try:
        said = canonical.decode(body, limits.CONTROL_BYTES, "answer")
    except ProtocolError:
        said = {}
    message = str(said.get("message") or f"the server answered with status {status}")
    return EnrolmentError(message, str(said.get("hint") or "Ask the fleet's operator for a new token."))


def _connection(url: SplitResult, token: str) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "http" and host in _LOOPBACK:
        return http.client.HTTPConnection(host, url.port or 80, timeout=TIMEOUT_S)
    if url.scheme != "https" or not host:
        raise InputError(f"{url.geturl()!r} is no server address", _ADDRESS_HINT)
    port = url.port or 443
    context = _pinned_context(host, port, token.rpartition(".")[2])
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)


def _pinned_context(host: str, port: int, ca_sha256: str) -> ssl.SSLContext:
    """A context that trusts the one CA that the token names; it is taken from the chain that the server shows.

    The first connection believes nothing and says nothing; the one that carries the token is verified in full.
    """
    looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    looking.check_hostname = False
    looking.verify_mode = ssl.CERT_NONE
    try:
        plain = socket.create_connection((host, port), TIMEOUT_S)
        with plain, looking.wrap_socket(plain, server_hostname=host) as shown:
            chain = _shown_chain(shown)
    except OSError as error:
        raise UnreachableError(f"{host}:{port}: {error}") from error
    pinned = [der for der in chain if hashlib.sha256(der).hexdigest() == ca_sha256]
    if not pinned:
        hint = "Either this is not the fleet's server, or the token belongs to another fleet."
        raise EnrolmentError(f"{host}:{port} does not show the CA that the token names", hint)
    context = client_context(Now.read)
    context.load_verify_locations(cadata=pinned[0])
    return context


def _shown_chain(sock: ssl.SSLSocket) -> list[bytes]:
    """The certificates that the server sent (DER), unverified."""
    if sys.version_info >= (3, 13):
        return list(sock.get_unverified_chain())
    import _ssl  # before Python 3.13 the chain is reachable below `SSLSocket` alone

    inner: Any = sock
    return [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in inner._sslobj.get_unverified_chain()]
