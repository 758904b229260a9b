"""The server's own MQTT connection, as `_fleet`.

1. It reads everything that devices send, at QoS 0 in a clean session: the application's acks make it safe.
2. Retained publishes go at QoS 1, and again after a reconnect until the broker has acknowledged them.
3. It reconnects at once and for ever.
4. `on_message` runs in the link's own thread and must not raise; blob chunks go to `read_retained` instead.

    link = BrokerLink(("127.0.0.1", 8883), ClientTls(ca, chain, key), on_message=ingest.put)
    link.start()
    link.publish(topics.desired("dev-1"), envelope, retain=True).wait(5)
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from outrider_fleet.broker.errors import LinkError
from outrider_fleet.pki.ca import FLEET_NAME
from outrider_fleet.pki.tls import client_context
from outrider_protocol import topics

_log: Final = logging.getLogger(__name__)
BLOBS: Final = f"{topics.ROOT}/blob/"
KEEPALIVE_S: Final = 15
RECONNECT_MIN_S: Final = 0.05
RECONNECT_MAX_S: Final = 0.5
IN_FLIGHT: Final = 64
FILTERS: Final = 64  # in one SUBSCRIBE

OnMessage = Callable[[str, bytes], None]
OnConnected = Callable[[bool], None]


@dataclass(frozen=True)
class ClientTls:
    """PEM files: the authority to trust, and the client's certificate chain and key."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Publication:
    """One publish on its way."""

    topic: str
    info: mqtt.MQTTMessageInfo

    def wait(self, timeout_s: float) -> None:
        """Block until the broker has acknowledged it (QoS 1) or it was sent (QoS 0); raises `LinkError`."""
        try:
            self.info.wait_for_publish(timeout_s)
        except RuntimeError as error:
            raise LinkError(f"{self.topic}: {error}") from error
        if not self.info.is_published():
            raise LinkError(f"{self.topic}: not acknowledged within {timeout_s} s")


@dataclass
class _Reading:
    """Retained messages being collected for one filter."""

    prefix: str
    wanted: int
    only: frozenset[str] | None = None
    found: dict[str, bytes] = field(default_factory=dict)
    complete: threading.Event = field(default_factory=threading.Event)

    def take(self, topic: str, payload: bytes) -> None:
        if topic.startswith(self.prefix) and (self.only is None or topic in self.only):
            self.found[topic] = payload
            if len(self.found) >= self.wanted:
                self.complete.set()


class BrokerLink:
    """One connection; every method may be called from any thread."""

    def __init__(
        self,
        address: tuple[str, int],
        tls: ClientTls,
        on_message: OnMessage,
        *,
        on_connected: OnConnected | None = None,
        client_id: str = FLEET_NAME,
    ) -> None:
        self._address, self._on_message, self._on_connected = address, on_message, on_connected
        self._subscribed = threading.Event()
        self._refusal = ""
        self._readings: list[_Reading] = []
        self._client = self._make_client(client_id, tls)

    def _make_client(self, client_id: str, tls: ClientTls) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, clean_session=True, protocol=mqtt.MQTTv311)
        client.tls_set_context(client_context(tls.ca, tls.certificate, tls.key))
        client.reconnect_delay_set(RECONNECT_MIN_S, RECONNECT_MAX_S)  # type: ignore[arg-type]  # floats are slept
        client.max_inflight_messages_set(IN_FLIGHT)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_subscribe, client.on_message = self._subscribe_answered, self._received
        return client

    @property
    def connected(self) -> bool:
        """Whether the connection stands and the subscription was granted."""
        return self._subscribed.is_set()

    def start(self, timeout_s: float = 10.0) -> None:
        """Connect and subscribe; raises `LinkError` when that takes longer (it goes on trying)."""
        self._client.connect_async(*self._address, keepalive=KEEPALIVE_S)
        self._client.loop_start()
        self.wait_connected(timeout_s)

    def wait_connected(self, timeout_s: float) -> None:
        """Block until the link stands; raises `LinkError`."""
        if not self._subscribed.wait(timeout_s):
            raise LinkError(f"not connected to {self._address} within {timeout_s} s {self._refusal}".rstrip())

    def stop(self) -> None:
        """Disconnect; what was not acknowledged is dropped."""
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets(sockpair_only=True)  # paho closes its wake-up pair only when it is collected
        self._subscribed.clear()

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> Publication:
        """Send at QoS 1 when retained, else at QoS 0; does not block. While disconnected, QoS 1 waits."""
        info = self._client.publish(topic, payload, qos=1 if retain else 0, retain=retain)
        if retain and info.rc == MQTTErrorCode.MQTT_ERR_NO_CONN:
            info.rc = MQTTErrorCode.MQTT_ERR_SUCCESS  # it is queued: sent after the reconnect
        return Publication(topic, info)

    def read_retained(self, prefix: str, wanted: int, timeout_s: float) -> dict[str, bytes]:
        """Read `wanted` retained messages directly below a blob topic; fewer when the time is over."""
        if not prefix.startswith(BLOBS):
            raise LinkError(f"{prefix}: only blob topics can be read")
        return self._read(_Reading(f"{prefix}/", wanted), [f"{prefix}/+"], timeout_s)

    def read_topics(self, names: list[str], timeout_s: float) -> dict[str, bytes]:
        """Read these retained messages, all blob topics; fewer when the time is over."""
        if not all(name.startswith(BLOBS) for name in names):
            raise LinkError("only blob topics can be read")
        return self._read(_Reading(BLOBS, len(names), frozenset(names)), names, timeout_s)

    def _read(self, reading: _Reading, filters: list[str], timeout_s: float) -> dict[str, bytes]:
        self._readings.append(reading)
        for start in range(0, len(filters), FILTERS):
            self._client.subscribe([(each, 0) for each in filters[start : start + FILTERS]])
        reading.complete.wait(timeout_s)
        for start in range(0, len(filters), FILTERS):
            self._client.unsubscribe(filters[start : start + FILTERS])
        self._readings.remove(reading)
        return reading.found

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._refusal = f"({reason})"
            _log.warning("broker refused the server's connection: %s", reason)
            return
        client.subscribe(topics.ALL_UP, qos=0)

    def _subscribe_answered(
        self, _client: mqtt.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refusal = "(subscription refused)"
            _log.error("broker refused a subscription of the server: %s", reasons)
            return
        if not self._subscribed.is_set():
            self._subscribed.set()
            self._tell(connected=True)

    def _disconnected(
        self, _client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        if self._subscribed.is_set():
            self._subscribed.clear()
            _log.info("server's broker connection ended: %s", reason)
            self._tell(connected=False)

    def _tell(self, *, connected: bool) -> None:
        if self._on_connected is not None:
            self._on_connected(connected)

    def _received(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if not message.topic.startswith(BLOBS):
            self._on_message(message.topic, bytes(message.payload))
            return
        for reading in list(self._readings):
            reading.take(message.topic, bytes(message.payload))
