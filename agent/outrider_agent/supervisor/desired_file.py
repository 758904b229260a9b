"""`desired.json`: the accepted order as it came, so that a restart needs nobody to bring it again.

It is no part of what is trusted: the update process judges the envelope anew. A file that cannot be read is passed
over; the broker, or the person with the folder, brings the order again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from outrider_agent.durable import Durable
from outrider_agent.supervisor import desired
from outrider_protocol import canonical, limits
from outrider_protocol.errors import ProtocolError
from outrider_protocol.fields import VERSION, Fields


@dataclass(frozen=True)
class Desired:
    """An order's envelope, and the folder that it was carried in ("" for the broker's)."""

    envelope: bytes
    folder: str = ""


class DesiredFile:
    """Keeps one."""

    def __init__(self, path: Path, disk: Durable) -> None:
        self._path, self._disk = path, disk

    def save(self, what: Desired) -> None:
        """Durable when it returns."""
        value = {"v": VERSION, "envelope": what.envelope.decode(), "folder": what.folder}
        self._disk.write(self._path, canonical.encode(value))

    def load(self, envelope_sha256: str) -> Desired | None:
        """The order with this digest, None where another one or none is kept."""
        try:
            fields = Fields(canonical.decode(self._path.read_bytes(), 2 * limits.CONTROL_BYTES, "desired"), "desired")
            fields.versioned(frozenset())
            envelope = fields.text("envelope", limit=limits.ORDER_BYTES).encode()
            found = Desired(envelope, fields.text("folder"))
        except (OSError, ProtocolError):
            return None
        return found if desired.sha256(envelope) == envelope_sha256 else None
