"""Asks the signer process to sign. Every method may be called from any thread.

client = SignerClient(socket_path(home))
envelope = client.sign_order(order)
online = client.publish_release("har", metadata)
"""

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from outrider_fleet import errors as fleet_errors
from outrider_fleet.errors import FleetError, InvalidRequestError
from outrider_fleet.signing import errors as signing_errors
from outrider_fleet.signing import framing
from outrider_fleet.signing.errors import SignerError
from outrider_protocol import errors as protocol_errors
from outrider_protocol.audit import Link
from outrider_protocol.errors import ProtocolError
from outrider_protocol.messages import TrustOnline
from outrider_protocol.order import Order

TIMEOUT_S: Final = 30.0
PART_BYTES: Final = framing.FRAME_BYTES // 4  # an envelope has less than four times its order's length, escaped twice


class SignerClient:
    """One request a connection; raises the signer's own refusals by their class, `SignerError` if it is away."""

    def __init__(self, path: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path, self._timeout_s = path, timeout_s

    def sign_order(self, order: Order) -> bytes:
        """Return the signed envelope of one order; raises `OrderRefusedError`."""
        return self.sign_orders([order])[0]

    def sign_orders(self, orders: Sequence[Order]) -> list[bytes]:
        """Return one envelope an order; all are given out or none, however many there are."""
        texts = [order.encode().decode() for order in orders]
        answers = [self._ask({"op": "sign_orders", "orders": part}) for part in _parts(texts)]
        return [text.encode() for answer in answers for text in answer["envelopes"]]

    def publish_release(self, model: str, role_metadata: bytes) -> TrustOnline:
        """Publish a delegated role; returns what devices are to be sent. Raises `MetadataRefusedError`."""
        text = role_metadata.decode(errors="replace")
        return self._online({"op": "publish", "model": model, "metadata": text})

    def refresh(self) -> TrustOnline:
        """Sign on top of a ceremony, or what grows old; returns what devices are to be sent."""
        return self._online({"op": "refresh"})

    def audit_head(self) -> Link:
        """The last head of the audit log that was signed."""
        answer = self._ask({"op": "audit_head"})
        return Link(int(answer["seq"]), str(answer["hash"]))

    def audit_seal(self, entries: Sequence[bytes]) -> bytes:
        """The signed head after these entries, which follow the last one; raises `AuditForkedError`."""
        answer = self._ask({"op": "audit_seal", "entries": [entry.decode() for entry in entries]})
        return str(answer["envelope"]).encode()

    def audit_reopen(self, kept: Link, reason: str) -> None:
        """Go on from `kept` with a log that was cut."""
        self._ask({"op": "audit_reopen", "seq": kept.seq, "hash": kept.hash, "reason": reason})

    def online(self) -> bytes:
        """The payload of `o1/trust/online`; ask again every minute or so: it is signed anew in time."""
        return self.refresh().encode()

    def _online(self, request: dict[str, Any]) -> TrustOnline:
        return TrustOnline.decode(self._ask(request)["online"].encode())

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._exchange(request)
        except (OSError, ProtocolError) as error:
            raise SignerError(f"{self._path}: {error}") from error
        if not answer.get("ok"):
            raise _refusal(answer)
        return answer

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection, framing.short_path(self._path) as name:
            connection.settimeout(self._timeout_s)
            connection.connect(name)
            framing.send(connection, request)
            answer = framing.receive(connection)
        if answer is None:
            raise SignerError(f"{self._path}: the signer ended without an answer")
        return answer


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """In messages that fit a frame, and whose answers do."""
    part, size = list[str](), 0
    for text in texts:
        if part and size + len(text) > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    yield part


def _refusal(answer: dict[str, Any]) -> FleetError:
    error = _class_named(str(answer.get("error")))(str(answer.get("message")))
    error.hint = str(answer.get("hint") or error.hint)
    return error


def _class_named(name: str) -> type[FleetError]:
    for module in (signing_errors, fleet_errors):
        kind = getattr(module, name, None)
        if isinstance(kind, type) and issubclass(kind, FleetError):
            return kind
    return InvalidRequestError if hasattr(protocol_errors, name) else SignerError
