"""All parts of a running server, started in order and stopped in the opposite one.

    signer → gate (broker, callout) → link → ingest → distribution → engine        (HTTP and runner: `serve`)

1. A part that cannot start ends the start; what had started is stopped.
2. The embedded broker and the signer are restarted when they die; the link reconnects for ever.
3. An external broker is ours neither to start nor to end; what it may have lost is published again at each connection.
"""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final, Protocol

from outrider_fleet.app import clear_devices, close_loop, decommission, orders, rollouts
from outrider_fleet.app.distribute import Distribution
from outrider_fleet.app.fleet import Fleet
from outrider_fleet.app.ingest import Ingest
from outrider_fleet.app.seal import Seal
from outrider_fleet.broker.chunks import Warmer, chunk_count
from outrider_fleet.broker.link import BrokerLink, ClientTls
from outrider_fleet.errors import FleetError
from outrider_fleet.pki.ca import CertificateAuthority
from outrider_fleet.pki.files import private_directory
from outrider_fleet.server.gates import open_gate
from outrider_fleet.server.periodic import Periodic
from outrider_fleet.server.publisher import LinkPublisher
from outrider_fleet.signing.process import ForeignSigner, SignerProcess
from outrider_fleet.store import releases
from outrider_protocol import ids

_log: Final = logging.getLogger(__name__)
DISTRIBUTION_S: Final = 2.0
SEAL_S: Final = 5.0
WARMING_S: Final = 30.0
REVOCATIONS_S: Final = 86_400.0


class Part(Protocol):
    """What starts and stops."""

    def start(self) -> None:
        """Start; returns when it works."""

    def stop(self) -> None:
        """Stop for good."""


class Parts:
    """Everything but HTTP and the runner."""

    def __init__(self, fleet: Fleet, authority: CertificateAuthority, mqtt_port: int | None) -> None:
        self.fleet = fleet
        home = fleet.home
        private_directory(home.broker)
        self.signer = SignerProcess(home.path) if home.signing is None else ForeignSigner(home.signing)
        self.gate = open_gate(fleet, authority, mqtt_port)
        fleet.broker_address = lambda: self.gate.advertised
        self.ingest = Ingest(fleet)
        self.distribution = Distribution(fleet, forgetful=fleet.config.broker.mosquitto is not None)
        self.seal = Seal(fleet)
        chain, key = authority.issue_fleet().write(home.broker, "fleet")
        self.link = BrokerLink(
            self.gate.address,
            ClientTls(home.ca / "ca.pem", chain, key),
            self.ingest.put,
            on_connected=self._connected,
        )
        self.warmer = Warmer(self.link)
        self._periodic = [
            Periodic("engine", fleet.config.engine.tick_s, *self._engine()),
            Periodic("distribution", DISTRIBUTION_S, self.distribution.step),
            Periodic("revocations", REVOCATIONS_S, self.gate.refresh),
            Periodic("seal", SEAL_S, self.seal.step),
        ]
        if fleet.config.broker.mosquitto is None:  # the cache that is kept warm is nats-server's
            self._periodic.append(Periodic("warming", WARMING_S, self._choose_warm))
        self._started, self._warm = ExitStack(), set[str]()

    def start(self) -> None:
        """Start all parts; raises the first part's `FleetError`."""
        with ExitStack() as stack:
            children: tuple[Part, ...] = (self.signer, self.gate)
            for part in children:
                part.start()
                stack.callback(part.stop)
            stack.callback(self._seal_all)
            self.link.start()
            stack.callback(self.link.stop)
            self.fleet.publisher = LinkPublisher(self.link)
            self.ingest.start()
            stack.callback(self.ingest.stop)
            _log.info("%d desired states published again", orders.republish(self.fleet))
            workers: tuple[Part, ...] = (*self._periodic, self.warmer)
            for worker in workers:
                worker.start()
                stack.callback(worker.stop)
            self._started = stack.pop_all()

    def stop(self) -> None:
        """Stop all parts."""
        self._started.close()

    def health(self) -> dict[str, Any]:
        """How the parts are."""
        return {
            "broker": self.link.connected,
            "broker_restarts": self.gate.restarts,
            "signer": self.signer.alive,
            "ingest": vars(self.ingest.counts),
            "audit": self.seal.holds,
        }

    def pids(self) -> dict[str, int | None]:
        """Process ids of the children."""
        return {"signer": self.signer.pid, "broker": self.gate.pid}

    def _seal_all(self) -> None:
        try:
            self.seal.step()
        except FleetError as error:
            _log.error("the audit log was not sealed: %s (%s)", error, error.hint)

    def _connected(self, connected: bool) -> None:
        if connected:
            self.distribution.again()

    def _engine(self) -> tuple[Callable[[], object], ...]:
        return (
            lambda: rollouts.tick(self.fleet),
            lambda: clear_devices.step(self.fleet),
            lambda: close_loop.step(self.fleet),
            lambda: decommission.step(self.fleet, self.gate.revoke),
        )

    def _choose_warm(self) -> None:
        """Keep the artifacts of running rollouts warm, and no others."""
        with self.fleet.look() as connection:
            wanted = releases.blobs_of_running_rollouts(connection)
        for digest, size in wanted.items():
            self.warmer.add(ids.hex_of(digest), chunk_count(size))
        for digest in self._warm - set(wanted):
            self.warmer.remove(ids.hex_of(digest))
        self._warm = set(wanted)
