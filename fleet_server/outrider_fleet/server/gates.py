"""The broker of a server: the embedded one, or the external one that fleet.toml or `up --broker` names."""

from pathlib import Path

from outrider_fleet.app import admission
from outrider_fleet.app.fleet import Fleet
from outrider_fleet.broker.callout import Callout
from outrider_fleet.broker.gate import EmbeddedGate, Gate
from outrider_fleet.broker.mosquitto import MosquittoGate
from outrider_fleet.broker.nats import EmbeddedBroker
from outrider_fleet.broker.settings import ServerTls
from outrider_fleet.pki.ca import CertificateAuthority


def open_gate(fleet: Fleet, authority: CertificateAuthority, mqtt_port: int | None) -> Gate:
    """Make the gate; nothing is started yet. Raises `BrokerFilesError` or `BrokerBinaryMissingError`."""
    directory = fleet.config.broker.mosquitto
    if directory is not None:
        return MosquittoGate(Path(directory), authority, lambda: admission.revoked(fleet))
    return _embedded(fleet, authority, mqtt_port)


def _embedded(fleet: Fleet, authority: CertificateAuthority, mqtt_port: int | None) -> Gate:
    home, config = fleet.home, fleet.config.broker
    hosts = tuple(dict.fromkeys((config.advertise_host, config.host, "127.0.0.1", "localhost")))
    chain, key = authority.issue_server(hosts).write(home.broker, "server")
    broker = EmbeddedBroker(
        home.broker,
        ServerTls(chain, key, home.ca / "ca.pem"),
        mqtt_host=config.host,
        mqtt_port=config.port if mqtt_port is None else mqtt_port,
        binary=Path(config.binary) if config.binary else None,
    )
    callout = Callout(
        broker.nats_url,
        broker.credentials,
        lambda device: admission.admit(fleet, device),
        key_of=lambda device: admission.key_of(fleet, device),
    )
    return EmbeddedGate(broker, callout, config.advertise_host)
