"""Sends what waits in the outbox, and obeys the server's acks.

1. Per stream, at most `in_flight` batches wait for their ack; see `outbox.flight`.
2. Only the server's ack deletes. An ack of another outbox is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from outrider_agent.config import Telemetry
from outrider_agent.outbox.flight import Flight
from outrider_agent.outbox.store import Outbox
from outrider_protocol import telemetry, topics
from outrider_protocol.messages import STREAMS, Ack


class Publisher(Protocol):
    """What the sender needs of the connection."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool: ...


class Sender:
    """Moves batches from the outbox to the connection."""

    def __init__(
        self, device: str, outbox: Callable[[], Outbox], link: Publisher, limits: Telemetry, clock: Callable[[], float]
    ) -> None:
        self._outbox, self._link, self._now_s = outbox, link, clock
        self._topics = {stream: topics.up(device, stream) for stream in STREAMS}
        self._flights = {stream: Flight(limits.in_flight, limits.ack_timeout_s) for stream in STREAMS}
        self._connected = False

    def connected(self) -> None:
        """Send everything that is not acknowledged again, on this connection."""
        self._connected = True
        for flight in self._flights.values():
            flight.connected(self._now_s())
        self.send()

    def lost(self) -> None:
        """No connection: wait."""
        self._connected = False

    def renewed(self) -> None:
        """The outbox was replaced."""
        for flight in self._flights.values():
            flight.connected(self._now_s())

    def send(self) -> None:
        """Hand over what fits the windows; events first."""
        if self._connected:
            for stream in reversed(STREAMS):
                self._send_stream(stream)

    def acked(self, ack: Ack) -> bool:
        """Obey one ack; returns whether anything was deleted."""
        outbox = self._outbox()
        if ack.outbox_id != outbox.outbox_id:
            return False
        deleted = outbox.ack(ack.stream, ack.seq)
        self._flights[ack.stream].acked(ack.seq, self._now_s())
        self.send()
        return deleted

    def _send_stream(self, stream: str) -> None:
        outbox, flight = self._outbox(), self._flights[stream]
        after, room = flight.plan(outbox.acked()[stream], self._now_s())
        for item in outbox.sendable(stream, after, room) if room > 0 else ():
            data = telemetry.wrap(outbox.outbox_id, stream, item.seq, item.prev, item.body)
            if not self._link.publish(self._topics[stream], data):
                return
            flight.sent(item.seq, self._now_s())
            outbox.mark_sent(stream, item.seq)
