"""Who decides about connections: the embedded broker with its callout, or an external one with a revocation list.

1. Either way `revoke` refuses a device's next connect and ends its live session, and touches nobody else.
2. `allow` is told of every enrolment.
"""

from typing import Protocol

from outrider_fleet.broker.callout import Callout
from outrider_fleet.broker.callout_thread import CalloutThread
from outrider_fleet.broker.nats import EmbeddedBroker


class Gate(Protocol):
    """One broker, as the fleet server sees it."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for the fleet server's own connection."""

    @property
    def advertised(self) -> tuple[str, int]:
        """Host and port that devices are told."""

    @property
    def pid(self) -> int | None:
        """Its process, where it is a child of ours."""

    @property
    def restarts(self) -> int:
        """How often we started it again."""

    def start(self) -> None:
        """Start what is ours to start; raises `BrokerError`."""

    def stop(self) -> None:
        """End what we started."""

    def refresh(self) -> None:
        """Renew what the broker knows of revocations, where it keeps such a thing."""

    def revoke(self, device: str) -> int:
        """End the sessions of a device that the store no longer admits; returns how many ended."""

    def allow(self, device: str) -> None:
        """A device was enrolled."""


class EmbeddedGate:
    """nats-server and the authorization callout, both ours."""

    def __init__(self, broker: EmbeddedBroker, callout: Callout, advertise_host: str) -> None:
        self._broker, self._callout, self._advertise_host = broker, callout, advertise_host
        self._thread = CalloutThread(callout)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for the fleet server's own connection."""
        return self._broker.mqtt_address

    @property
    def advertised(self) -> tuple[str, int]:
        """Host and port that devices are told."""
        return self._advertise_host, self._broker.mqtt_address[1]

    @property
    def pid(self) -> int | None:
        """The broker's process."""
        return self._broker.pid

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return self._broker.restarts

    def start(self) -> None:
        """Start the broker, then answer its questions; raises `BrokerError`."""
        self._broker.start()
        try:
            self._thread.start()
        except BaseException:
            self._broker.stop()
            raise

    def stop(self) -> None:
        """End both."""
        self._thread.stop()
        self._broker.stop()

    def refresh(self) -> None:
        """Nothing: it asks at every connect."""

    def revoke(self, device: str) -> int:
        """End its sessions (`Callout.revoke`)."""
        return self._thread.revoke(device)

    def allow(self, device: str) -> None:
        """Let the store decide again."""
        self._callout.allow(device)
