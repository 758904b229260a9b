"""What every use case stands on: the store, the clock, the signer, the way out.

1. A `Change` is one transaction; its messages leave, and its listeners hear, only after the commit.
2. Clock and randomness are given: tests drive them.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Connection

from outrider_fleet.app.actor import Actor
from outrider_fleet.app.bus import Bus
from outrider_fleet.config import FleetConfig, Home
from outrider_fleet.errors import UnavailableError
from outrider_fleet.store import audit
from outrider_fleet.store.database import Database
from outrider_protocol.audit import Link
from outrider_protocol.messages import TrustOnline
from outrider_protocol.order import Order

_log: Final = logging.getLogger(__name__)


class Signer(Protocol):
    """Signs with the online keys (`outrider_fleet.signing.client`)."""

    def sign_orders(self, orders: list[Order], /) -> list[bytes]:
        """One envelope an order."""

    def publish_release(self, model: str, role_metadata: bytes, /) -> TrustOnline:
        """Publish a delegated role."""

    def refresh(self) -> TrustOnline:
        """What devices are to be sent now."""

    def audit_head(self) -> Link:
        """How far the audit log was signed."""

    def audit_seal(self, entries: Sequence[bytes], /) -> bytes:
        """The signed head after these entries."""

    def audit_reopen(self, kept: Link, reason: str, /) -> None:
        """Go on with a log that was cut."""


class Publisher(Protocol):
    """Sends to the broker; does not block."""

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> object:
        """Send one message."""

    def publish_blob(self, hex_digest: str, file: Path) -> None:
        """Send every chunk of a blob, retained; returns when the broker has them. Raises `FleetError`."""

    def lost_blobs(self, sizes: dict[str, int]) -> set[str]:
        """Which of these blobs (hex digest → bytes) the broker has not got to its last chunk."""


class DeviceAuthority(Protocol):
    """Issues device certificates (`outrider_fleet.pki.ca`)."""

    @property
    def ca_pem(self) -> str:
        """What a device trusts."""

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the root certificate."""

    def issue_device(self, csr_pem: str, device: str, days: float = 30) -> str:
        """Sign a request."""


class SilentPublisher:
    """Drops everything: while the broker is away, retained messages are published again later."""

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Drop it."""
        _log.debug("no broker: %s (%d bytes, retain=%s) dropped", topic, len(payload), retain)

    def publish_blob(self, hex_digest: str, file: Path) -> None:
        """Refuse."""
        raise UnavailableError(f"no broker: {file} was not published as {hex_digest}")

    def lost_blobs(self, sizes: dict[str, int]) -> set[str]:
        """Refuse."""
        raise UnavailableError(f"no broker: it cannot be asked for {len(sizes)} blobs")


@dataclass
class Change:
    """One transaction on its way."""

    connection: Connection
    now_ms: int
    messages: list[tuple[str, bytes, bool]] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Send after the commit."""
        self.messages.append((topic, payload, retain))

    def touch(self, *what: str) -> None:
        """Tell listeners after the commit that this has changed."""
        self.changed.update(what)

    def audit(self, actor: str, action: str, what: str, detail: dict[str, Any] | None = None) -> None:
        """Record who did what, in the log's chain; it stands there exactly if this transaction does."""
        known = {"token": actor.token, "request_sha256": actor.request_sha256} if isinstance(actor, Actor) else {}
        audit.append(self.connection, self.now_ms, str(actor), action, what, detail=detail, **known)


@dataclass
class Fleet:
    """Everything together. `sequences` draws order sequences, `random_hex(n)` n random bytes as hex."""

    home: Home
    config: FleetConfig
    database: Database
    signer: Signer
    authority: DeviceAuthority
    clock_ms: Callable[[], int]
    random_hex: Callable[[int], str]
    sequences: Iterator[int]
    broker_address: Callable[[], tuple[str, int]]
    publisher: Publisher = field(default_factory=SilentPublisher)
    bus: Bus = field(default_factory=Bus)
    epoch_published: int = 0  # of the director that devices were told of

    @contextmanager
    def change(self) -> Iterator[Change]:
        """One transaction; afterwards its messages are sent and its listeners told."""
        with self.database.write() as connection:
            change = Change(connection, self.clock_ms())
            yield change
        for topic, payload, retain in change.messages:
            self.publisher.publish(topic, payload, retain)
        self.bus.tell(change.changed)

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """One consistent view."""
        with self.database.read() as connection:
            yield connection
