"""TLS to the fleet's servers, with certificate times that a wrong clock does not spoil.

1. Everything but time is checked by OpenSSL: chain, name, purpose, signature. Its time check is switched off.
2. Right after the handshake, before a byte of ours is sent, every certificate of the verified chain is held against
   `Now.at_ms`: one that ended before it is refused.
3. A certificate that begins later than the clock is accepted: it proves the clock late, not the certificate wrong.
4. Nothing but the standard library: the supervisor connects through this.

Who wraps a socket with a context of `client_context` gets the check with it, whatever library does the wrapping.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from outrider_agent.clock import Now

NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME; the ssl module has no name for it
Clock = Callable[[], Now]


class CertificateTimeError(ssl.SSLError):
    """A certificate of the server ended before the earliest time that it can be now."""

    hint = "Compare this device's clock with the server's; if it is right, the server needs a new certificate."

    def __init__(self, message: str) -> None:
        super().__init__(1, message)


@dataclass(frozen=True)
class KeyFiles:
    """A client's certificate and key (PEM)."""

    certificate: Path
    key: Path


def client_context(clock: Clock, *, ca: Path | None = None, own: KeyFiles | None = None) -> ssl.SSLContext:
    """Connects to servers that `ca` vouches for, as the holder of `own`; raises `OSError` or `ssl.SSLError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= NO_CHECK_TIME
    context.sslsocket_class = _checking(clock)
    if ca is not None:
        context.load_verify_locations(cafile=str(ca))
    if own is not None:
        context.load_cert_chain(str(own.certificate), str(own.key))
    return context


def _checking(clock: Clock) -> type[ssl.SSLSocket]:
    class CheckedSocket(ssl.SSLSocket):
        """Looks at the times of the server's chain as soon as the handshake has verified it."""

        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            try:
                check_chain(verified_chain(self), clock())
            except CertificateTimeError:
                self.close()
                raise

    return CheckedSocket


def verified_chain(sock: ssl.SSLSocket) -> list[Mapping[str, Any]]:
    """The certificates that OpenSSL built the chain of, leaf first, each as `getpeercert` would show it."""
    inner: Any = sock
    # Public only since Python 3.13, and there as DER, which needs a parser; below it every Python from 3.10 on has it.
    return [certificate.get_info() for certificate in inner._sslobj.get_verified_chain()]


def check_chain(chain: Iterable[Mapping[str, Any]], now: Now) -> None:
    """Raise `CertificateTimeError` where one of them has ended."""
    for certificate in chain:
        ends_ms = int(ssl.cert_time_to_seconds(certificate["notAfter"]) * 1000)
        if ends_ms < now.at_ms:  # [CLK-2]
            raise CertificateTimeError(
                f"the certificate of {_name(certificate)} ended {_utc(ends_ms)}; it is at least {_utc(now.at_ms)}"
                f"{'' if now.clock_ok else ' (the clock is behind that)'}"
            )


def _name(certificate: Mapping[str, Any]) -> str:
    return ", ".join(value for part in certificate.get("subject", ()) for key, value in part if key == "commonName")


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
