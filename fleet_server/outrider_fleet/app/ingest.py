"""Ingest: messages from devices become rows and effects, many in one transaction, acknowledged after it.

1. At most `batch` messages are committed at once; whatever waits meanwhile goes into the next transaction.
2. Rows and their effects (an execution's state, a rollout's step, its orders) are in the same transaction as the key.
3. Acks leave after the commit. A duplicate changes nothing and is acknowledged again.
4. If a group fails, its messages are committed one by one: a single bad one takes no others along, and none ends
   ingest, whatever is wrong with it.
5. Devices that may not connect are ignored.
"""

import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from outrider_fleet.app import batch_rows, device_events, incoming, renew, streams
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.app.incoming import BatchIn, Incoming, PresenceIn, RenewIn, StateIn
from outrider_fleet.app.rollouts import Rollouts
from outrider_fleet.app.streams import Stream
from outrider_fleet.errors import FleetError
from outrider_fleet.store import devices, drift, sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import predictions, samples, windows
from outrider_protocol import telemetry
from outrider_protocol.errors import ProtocolError
from outrider_protocol.messages import Event

_log: Final = logging.getLogger(__name__)
QUEUE_LIMIT: Final = 20_000
STOP: Final = ("", b"")


def commit(fleet: Fleet, messages: Sequence[Incoming]) -> None:
    """Commit messages with their effects in one transaction, then acknowledge."""
    with fleet.change() as change:
        session = Rollouts(fleet, change)
        found = {device: devices.get(change.connection, device) for device in incoming.devices_of(messages)}
        touched: dict[Stream, None] = {}
        for message in messages:
            row = found[message.device]
            if row is None or row["state"] not in devices.CONNECTING:
                continue
            if isinstance(message, BatchIn):
                _batch(change, session, message)
                touched[Stream(message.device, message.batch.outbox_id, message.batch.stream)] = None
            elif isinstance(message, RenewIn):
                renew.over_link(fleet, change, message.request)
            else:
                _say(change, row, message)
                found[message.device] = devices.get(change.connection, message.device)
        session.flush()
        for stream in touched:
            streams.complete(change, stream)
            streams.acknowledge(change, stream)


def _say(change: Change, row: Row, message: Incoming) -> None:
    if isinstance(message, PresenceIn):
        device_events.presence(change, row, message.presence)
    elif isinstance(message, StateIn):
        device_events.state(change, row, message.state)


@dataclass(frozen=True)
class _Content:
    """What is in a batch: rows, or an event with its body, or the reason why neither."""

    rows: list[Row]
    event: tuple[Event, device_events.Body] | None = None
    refused: str = ""

    @property
    def n(self) -> int:
        return len(self.rows) or int(self.event is not None)


def _batch(change: Change, session: Rollouts, message: BatchIn) -> None:
    """Store one batch, unless it is there already."""
    content = _content(message, change.now_ms)
    kind = "refused" if content.refused else message.batch.kind
    if not streams.is_new(change, message.device, message.batch, kind, content.n):
        return
    if content.refused:
        change.audit(f"device:{message.device}", "batch.refused", str(message.batch.seq), {"why": content.refused})
    _store(change, message.batch.kind, content.rows)
    if content.event is not None:
        device_events.event(change, session, message.device, *content.event)


def _content(message: BatchIn, now_ms: int) -> _Content:
    if message.refused:
        return _Content([], refused=message.refused)
    try:
        if message.batch.stream == "event":
            event = telemetry.check_event(message.batch)
            return _Content([], (event, device_events.read(event)))
        return _Content(_rows(message, now_ms))
    except ProtocolError as error:
        return _Content([], refused=str(error))


def _rows(message: BatchIn, now_ms: int) -> list[Row]:
    batch, device = message.batch, message.device
    if batch.kind == "predictions":
        return batch_rows.predictions(device, batch)
    if batch.kind == "windows":
        return batch_rows.windows(device, batch, now_ms)
    return batch_rows.samples(device, batch, now_ms) if batch.kind == "samples" else []


def _store(change: Change, kind: str, rows: list[Row]) -> None:
    if kind == "predictions":
        sql.insert_all(change.connection, predictions, rows)
        change.touch("predictions")
    elif kind == "windows":
        sql.insert_all(change.connection, windows, rows)
        for row in rows:
            drift.put_evidence(change.connection, row["device"], row["digest"], row["evidence"])
    elif kind == "samples":
        for row in rows:
            sql.insert_new(change.connection, samples, row)


@dataclass
class Counts:
    """What ingest has done since it started."""

    messages: int = 0
    transactions: int = 0
    dropped: int = 0
    failed: int = 0


class Ingest:
    """Takes messages from the broker's thread and commits them in its own."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._waiting: queue.Queue[tuple[str, bytes]] = queue.Queue(QUEUE_LIMIT)
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
        self.counts = Counts()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Commit what waits, then end."""
        self._waiting.put(STOP)
        self._thread.join()

    def put(self, topic: str, payload: bytes) -> None:
        """From any thread; when too much waits the message is dropped: without its ack the device sends it again."""
        try:
            self._waiting.put_nowait((topic, payload))
        except queue.Full:
            self.counts.dropped += 1

    def _run(self) -> None:
        stopping = False
        while not stopping:
            taken = self._take()
            stopping = STOP in taken
            messages = [message for topic, payload in taken if topic for message in self._parse(topic, payload)]
            if messages:
                self._commit(messages)

    def _take(self) -> list[tuple[str, bytes]]:
        taken = [self._waiting.get()]
        while len(taken) < self._fleet.config.engine.ingest_batch:
            try:
                taken.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return taken

    def _parse(self, topic: str, payload: bytes) -> list[Incoming]:
        try:
            message = incoming.parse(topic, payload)
        except ProtocolError as error:
            _log.warning("dropped a message on %s: %s", topic, error)
            self.counts.dropped += 1
            return []
        except Exception:  # noqa: BLE001 - one message must not end ingest for the fleet
            _log.exception("dropped a message on %s", topic)
            self.counts.dropped += 1
            return []
        return [] if message is None else [message]

    def _commit(self, messages: list[Incoming]) -> None:
        self.counts.messages += len(messages)
        try:
            commit(self._fleet, messages)
            self.counts.transactions += 1
        except Exception:  # noqa: BLE001 - one message must not end ingest for the fleet
            _log.warning("a group of %d messages failed, each alone now", len(messages), exc_info=True)
            self._commit_each(messages)

    def _commit_each(self, messages: list[Incoming]) -> None:
        for message in messages:
            try:
                commit(self._fleet, [message])
                self.counts.transactions += 1
            except (FleetError, ProtocolError, SQLAlchemyError) as error:
                self.counts.failed += 1
                _log.error("a message of %s was not committed: %s: %s", message.device, type(error).__name__, error)
            except Exception:  # noqa: BLE001 - one message must not end ingest for the fleet
                self.counts.failed += 1
                _log.exception("a message of %s was not committed", message.device)
