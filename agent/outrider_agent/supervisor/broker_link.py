"""The MQTT connection, in a thread of its own: what it hears comes out as a queue of facts.

1. MQTT 3.1.1, mutual TLS, clean session, QoS 0 subscriptions, QoS 1 publishes; a SUBACK of 0x80 is an error.
2. One client object a connection: nothing that an old connection held is sent again behind the outbox's back.
3. The last will says `online: false` with this connection's session; sessions only grow, so a late will harms nothing.
4. Reconnecting waits as `Backoff` says; `stop` ends the wait. Only a connection that held for `HELD_S` starts it over:
   two devices of one name, or a broker that hangs up on everybody, make no storm.
5. Certificate times are held against the later of clock and floor (`outrider_agent.tls`).
6. The thread decides nothing: `Connected`, `Lost`, `Received` and `Refused` go to the loop.
7. At most `QUEUED` messages wait for the broker; beyond it `publish` says no. On a slow connection what is sent again
   after every ack timeout would otherwise heap up.
8. Whatever a broker sends, the thread goes on: what cannot be read ends that connection.
"""

from __future__ import annotations

import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from outrider_agent.clock import Now
from outrider_agent.config import Broker
from outrider_agent.supervisor.backoff import Backoff
from outrider_agent.tls import Clock, KeyFiles, client_context
from outrider_protocol import limits, topics
from outrider_protocol.messages import Presence

CONNECT_S: Final = 10.0
LOOP_S: Final = 1.0
HELD_S: Final = 10.0
QUEUED: Final = 64
_SESSION_BITS: Final = 24  # connections of one start that have a number: ten years of trying, at one in 22 s


@dataclass(frozen=True)
class Connected:
    """A connection stands; `session` is what its presence says."""

    session: int


@dataclass(frozen=True)
class Lost:
    """The connection ended, or none could be made."""

    reason: str
    had_connected: bool


@dataclass(frozen=True)
class Received:
    """One message."""

    topic: str
    payload: bytes


@dataclass(frozen=True)
class Refused:
    """The broker refused a subscription."""

    topics: tuple[str, ...]


Fact = Connected | Lost | Received | Refused


@dataclass(frozen=True)
class Credentials:
    """Files of this device's identity."""

    certificate: Path
    key: Path
    ca: Path
    clock: Clock = Now.read

    @classmethod
    def under(cls, identity: Path, clock: Clock = Now.read) -> Credentials:
        """The files in an identity directory."""
        return cls(identity / "device.pem", identity / "device.key", identity / "ca.pem", clock)

    def context(self) -> ssl.SSLContext:
        """Mutual TLS against the fleet's CA alone; raises `OSError` or `ssl.SSLError`."""
        return client_context(self.clock, ca=self.ca, own=KeyFiles(self.certificate, self.key))


class BrokerLink:
    """Keeps one connection to the broker."""

    def __init__(
        self, device: str, broker: Broker, credentials: Credentials, starts: int, wake: Callable[[], None]
    ) -> None:
        self._device, self._broker, self._credentials, self._wake = device, broker, credentials, wake
        self._session = starts << _SESSION_BITS
        self._facts: queue.SimpleQueue[Fact] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._client: mqtt.Client | None = None
        self._asked: dict[int, tuple[str, ...]] = {}
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def facts(self) -> Iterable[Fact]:
        """What has happened since the last call."""
        while True:
            try:
                yield self._facts.get_nowait()
            except queue.Empty:
                return

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Hand a message to the connection (QoS 1); False without one. Arrival is proved by the server's ack alone."""
        client = self._client
        return client is not None and client.publish(topic, payload, qos=1, retain=retain).rc == mqtt.MQTT_ERR_SUCCESS

    def subscribe(self, filters: Iterable[str]) -> None:
        """Ask for topics at QoS 0; asking again brings the retained messages again."""
        client, wanted = self._client, tuple(filters)
        if client is None or not wanted:
            return
        result, mid = client.subscribe([(item, 0) for item in wanted])
        if result == MQTTErrorCode.MQTT_ERR_SUCCESS and mid is not None:
            self._asked[mid] = wanted

    def unsubscribe(self, filters: Iterable[str]) -> None:
        """No longer wanted."""
        client, gone = self._client, list(filters)
        if client is not None and gone:
            client.unsubscribe(gone)

    def stop(self, timeout_s: float = 2.0, *, farewell: bool = True) -> None:
        """Say goodbye (retained presence, unless nothing is to stay), disconnect and end the thread."""
        self._stopping.set()
        client = self._client
        if client is not None:
            offline = Presence(self._session, False).encode() if farewell else b""
            told = client.publish(topics.presence(self._device), offline, 1, True)
            _wait(told, timeout_s)
            if told.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                client.disconnect()  # else the last will says it, when the connection ends with this process
        self._thread.join(timeout_s)

    def _run(self) -> None:
        backoff = Backoff(first_s=0.25, limit_s=30.0)
        while not self._stopping.is_set():
            self._session += 1
            began_s = time.monotonic()
            reason, connected = self._one_connection()
            if connected and time.monotonic() - began_s >= HELD_S:
                backoff.succeeded()
            self._tell(Lost(reason, connected))
            self._stopping.wait(backoff.next_s())

    def _one_connection(self) -> tuple[str, bool]:
        try:
            client = self._new_client()
            client.connect(self._broker.host, self._broker.port, keepalive=self._broker.keepalive_s)
        except (OSError, ValueError) as error:
            return f"{self._broker.host}:{self._broker.port}: {error}", False
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        try:
            while code == MQTTErrorCode.MQTT_ERR_SUCCESS:
                code = client.loop(LOOP_S)
            reason = mqtt.error_string(code)
        except Exception as error:  # noqa: BLE001  # paho parses what the broker sends, and lets out whatever that raises
            reason = f"the broker sent what cannot be read: {error!r}"
        connected, self._client = self._client is not None, None
        return reason, connected

    def _new_client(self) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self._device, clean_session=True)
        client.tls_set_context(self._credentials.context())
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages_set(QUEUED)
        client.max_queued_messages_set(QUEUED)
        will = Presence(self._session, False).encode()
        client.will_set(topics.presence(self._device), will, qos=1, retain=True)
        client.on_connect, client.on_message, client.on_subscribe = (
            self._on_connect,
            self._on_message,
            self._on_subscribe,
        )
        # Publishing from the loop's thread must only queue: writing belongs to the thread in `client.loop`.
        client.on_socket_register_write = _leave_writing_to_loop
        return client

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            return
        self._asked.clear()
        self._client = client
        self._tell(Connected(self._session))

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        if len(message.payload) <= limits.MESSAGE_BYTES:
            self._tell(Received(message.topic, bytes(message.payload)))

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, mid: int, codes: list[Any], _properties: Any) -> None:
        wanted = self._asked.pop(mid, ())
        refused = tuple(topic for topic, code in zip(wanted, codes, strict=False) if code.is_failure)
        if refused:
            self._tell(Refused(refused))

    def _tell(self, fact: Fact) -> None:
        self._facts.put(fact)
        self._wake()


def _leave_writing_to_loop(_client: mqtt.Client, _userdata: Any, _sock: Any) -> None:
    return


def _wait(info: mqtt.MQTTMessageInfo, timeout_s: float) -> None:
    try:
        info.wait_for_publish(timeout_s)
    except (RuntimeError, ValueError):
        return
