"""Fixtures that others may reuse: a real broker with its callout (`house`), clients, the server's link."""

from collections.abc import Callable, Iterator

import pytest

from outrider_fleet.broker.callout import Callout
from outrider_fleet.broker.callout_thread import CalloutThread
from outrider_fleet.broker.link import BrokerLink, ClientTls
from outrider_fleet.broker.nats import EmbeddedBroker
from outrider_fleet.broker.settings import ServerTls
from outrider_fleet.pki.ca import CertificateAuthority
from tests.fleet.broker.house import Client, House, Inbox


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A broker with a callout that admits the devices in `admitted`."""
    directory = tmp_path_factory.mktemp("broker")
    ca = CertificateAuthority.create(directory / "ca", fleet="test")
    chain, key = ca.issue_server().write(directory, "server")
    fleet_chain, fleet_key = ca.issue_fleet().write(directory, "fleet")
    broker = EmbeddedBroker(directory / "broker", ServerTls(chain, key, directory / "ca" / "ca.pem"))
    broker.start()
    admitted: set[str] = set()
    keys: dict[str, str] = {}
    callout = Callout(broker.nats_url, broker.credentials, admitted.__contains__, key_of=keys.get)
    thread = CalloutThread(callout)
    thread.start()
    yield House(
        directory,
        ca,
        broker,
        callout,
        thread,
        admitted,
        keys,
        ClientTls(directory / "ca" / "ca.pem", fleet_chain, fleet_key),
    )
    thread.stop()
    broker.stop()


@pytest.fixture
def client(house: House) -> Iterator[Callable[..., Client]]:
    """Makes clients and closes them: `client("dev-1")`, `client("dev-1", tls=…)`."""
    made: list[Client] = []

    def make(client_id: str, tls: ClientTls | None = None) -> Client:
        made.append(Client(client_id, house.broker.mqtt_address, tls or house.device_tls(client_id)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def server(house: House) -> Iterator[Inbox]:
    """The server's own connection."""
    messages: list[tuple[str, bytes]] = []
    link = BrokerLink(
        house.broker.mqtt_address, house.fleet_tls, lambda topic, payload: messages.append((topic, payload))
    )
    link.start()
    yield Inbox(link, messages)
    link.stop()
