"""`python -m outrider_agent.renewal`: short-lived, asks for this device's next certificate and takes it in.

1. The key stays: the request is signed with it, and an answer for another key, name or issuer is refused.
2. With a connection the request goes over it, through the supervisor. Without one it goes to `[server] url`, by HTTPS
   that the fleet's CA vouches for (plain HTTP on loopback alone): an ended certificate opens no connection.
3. It asks when two thirds of the certificate's life are over, when there is no connection, and when the clock is known
   to be wrong: the server, whose clock is right, answers with the present certificate where it is not time yet.
4. `device.pem` is replaced durably; whoever connects next reads it.

    supervisor → begin {connected, server, verified_ms}, then message {} + blob
    supervisor ← request {} + blob, then one of done {outcome, message, hint}
"""

from __future__ import annotations

import http.client
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider_agent import VERSION
from outrider_agent.clock import Now
from outrider_agent.control import Channel, Message
from outrider_agent.durable import Durable
from outrider_agent.errors import AgentError, ControlError, EnrolmentError, StateError, UnreachableError
from outrider_agent.paths import Paths
from outrider_agent.tls import client_context
from outrider_agent.update import identity
from outrider_protocol import limits
from outrider_protocol.errors import ProtocolError
from outrider_protocol.messages import Renewal, RenewRequest

DUE_RATIO: Final = 2 / 3
ANSWER_S: Final = 30.0
TIMEOUT_S: Final = 20.0
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Task:
    """What the supervisor knows: whether it is connected, where the server is, the last verified time."""

    connected: bool
    server: str
    now: Now

    @classmethod
    def of(cls, message: Message) -> Task:
        """From the `begin` operation."""
        fields = message.fields
        return cls(bool(fields["connected"]), str(fields["server"]), Now.read(int(fields["verified_ms"])))


def is_due(certificate: x509.Certificate, now: Now) -> bool:
    """Whether two thirds of its life are over, or the clock cannot say."""
    begins_ms, ends_ms = _ms(certificate.not_valid_before_utc), _ms(certificate.not_valid_after_utc)
    return not now.clock_ok or now.at_ms >= begins_ms + DUE_RATIO * (ends_ms - begins_ms)  # [REN-1]


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


class Keeper:
    """This device's certificate and key, and what may take the certificate's place."""

    def __init__(self, directory: Path, disk: Durable) -> None:
        self._directory, self._disk = directory, disk
        self.device = identity.load(directory).device
        try:
            key = load_pem_private_key((directory / "device.key").read_bytes(), None)
            self.certificate = x509.load_pem_x509_certificate((directory / "device.pem").read_bytes())
            self._authorities = x509.load_pem_x509_certificates((directory / "ca.pem").read_bytes())
        except (OSError, ValueError) as error:
            raise StateError(
                f"{directory}: {error}", "Enrol this device anew (`outrider-agent enrol --again`)."
            ) from error
        if not isinstance(key, EllipticCurvePrivateKey):
            raise StateError(f"{directory}/device.key is not an elliptic-curve key")
        self._key = key

    def request(self) -> RenewRequest:
        """A request that proves the key."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.device)])
        signed = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self._key, hashes.SHA256())
        return RenewRequest(self.device, signed.public_bytes(Encoding.PEM).decode())

    def take(self, pem: str) -> bool:
        """Replace the certificate; False where it is the present one. Raises `EnrolmentError` for anything else."""
        try:
            offered = x509.load_pem_x509_certificate(pem.encode())
        except ValueError as error:
            raise EnrolmentError(f"the answer is no certificate: {error}") from error
        if offered == self.certificate:
            return False
        _check(offered, self.device, self._key, self._authorities)
        if offered.not_valid_after_utc <= self.certificate.not_valid_after_utc:
            raise EnrolmentError("the offered certificate ends before the present one")
        self._disk.write(self._directory / "device.pem", pem.encode())
        return True


def _check(
    offered: x509.Certificate, device: str, key: EllipticCurvePrivateKey, authorities: Sequence[x509.Certificate]
) -> None:
    """[REN-3] For this name and key, for clients, from the fleet's CA; raises `EnrolmentError`."""
    names = [attribute.value for attribute in offered.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    der = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if names != [device] or offered.public_key().public_bytes(*der) != key.public_key().public_bytes(*der):
        raise EnrolmentError(f"the certificate is for {names} and its key, not for {device} and its own")
    if not is_issued(offered, authorities):
        raise EnrolmentError("the certificate does not come from this fleet's CA")
    if _usages(offered) != [ExtendedKeyUsageOID.CLIENT_AUTH]:
        raise EnrolmentError("the certificate is not for a client")


def _usages(offered: x509.Certificate) -> list[x509.ObjectIdentifier]:
    """What it says that it is for; nothing where it does not say it once and readably."""
    try:
        return list(offered.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []


def is_issued(offered: x509.Certificate, authorities: Sequence[x509.Certificate]) -> bool:
    """Whether one of these authorities has signed a certificate."""
    return any(_is_by(offered, authority) for authority in authorities)


def _is_by(offered: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        offered.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


# -------------------------------------------------------------------- the two ways


def over_link(channel: Channel, request: RenewRequest) -> Renewal:
    """Through the supervisor's connection."""
    channel.send("request", {}, request.encode())
    answer = channel.receive_within(ANSWER_S)
    if answer is None or answer.op != "message":
        raise UnreachableError(f"no answer within {ANSWER_S:g} s", "The server may be away: it is tried again later.")
    return Renewal.decode(answer.blob or b"")


def over_http(server: str, ca: Path, request: RenewRequest, now: Now) -> Renewal:
    """By a request of its own; raises `EnrolmentError` or `UnreachableError`."""
    connection = _connection(server, ca, now)
    headers = {"Content-Type": "application/json", "User-Agent": f"outrider-agent/{VERSION}"}
    try:
        connection.request("POST", f"{urlsplit(server).path.rstrip('/')}/api/v1/renew", request.encode(), headers)
        with connection.getresponse() as response:
            body = response.read(limits.ENROL_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{server}: {error}") from error
    finally:
        connection.close()
    if response.status not in {http.HTTPStatus.OK, http.HTTPStatus.ACCEPTED}:
        raise EnrolmentError(f"{server} refused: {body[:300].decode('utf-8', 'replace')}")
    return Renewal.decode(body)


def _connection(server: str, ca: Path, now: Now) -> http.client.HTTPConnection:
    url = urlsplit(server)
    host = url.hostname or ""
    if url.scheme == "http" and host in LOOPBACK:
        return http.client.HTTPConnection(host, url.port or 80, timeout=TIMEOUT_S)
    if url.scheme != "https" or not host:
        raise EnrolmentError(f"[server] url = {server!r} is no address to renew at", "Give https://HOST:PORT.")
    context = client_context(lambda: now, ca=ca)
    return http.client.HTTPSConnection(host, url.port or 443, timeout=TIMEOUT_S, context=context)


# -------------------------------------------------------------------- the process


def renew(task: Task, keeper: Keeper, channel: Channel, ca: Path) -> tuple[str, str]:
    """What came of it: (`renewed` | `current` | `waiting` | `refused`, a sentence)."""
    if task.connected and not is_due(keeper.certificate, task.now):
        return "current", "it is not time yet"
    if not task.connected and not task.server:
        return "current", "there is no connection, and agent.toml names no server"
    request = keeper.request()
    answer = over_link(channel, request) if task.connected else over_http(task.server, ca, request, task.now)
    if answer.state != "issued":
        return answer.state, answer.why
    return ("renewed", "") if keeper.take(answer.certificate_pem) else ("current", "it is not time yet")


def main() -> int:
    """Run once; 0 when an answer was given or the supervisor has gone."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s renewal %(levelname)s %(message)s")
    try:
        channel = Channel.from_environment()
        begin = channel.receive_within(ANSWER_S)
        if begin is None or begin.op != "begin":
            return 0
        channel.send("done", _outcome(Task.of(begin), channel))
    except ControlError as error:
        logging.getLogger(__name__).warning("%s", error)
    return 0


def _outcome(task: Task, channel: Channel) -> dict[str, str]:
    paths = Paths.from_environment()
    try:
        outcome, message = renew(task, Keeper(paths.identity, Durable()), channel, paths.identity / "ca.pem")
    except ControlError:
        raise
    except (AgentError, ProtocolError) as error:
        kind = "refused" if isinstance(error, (EnrolmentError, ProtocolError)) else "failed"
        return {"outcome": kind, "message": f"{type(error).__name__}: {error}", "hint": error.hint}
    return {"outcome": outcome, "message": message, "hint": ""}


if __name__ == "__main__":
    sys.exit(main())
