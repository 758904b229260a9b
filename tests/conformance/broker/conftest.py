"""One broker a column, for the whole module; clients that are closed at the end."""

from collections.abc import Callable, Iterator

import pytest

from outrider_fleet.broker.link import ClientTls
from tests.conformance.broker import columns
from tests.conformance.broker.columns import MOSQUITTO, Column
from tests.fleet.broker.house import Client, Inbox

BROKERS = {"nats": columns.nats} | ({"mosquitto": columns.external} if MOSQUITTO else {})


@pytest.fixture(scope="module", params=sorted(BROKERS))
def column(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Column]:
    """A running broker."""
    with BROKERS[request.param](tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.fixture
def client(column: Column) -> Iterator[Callable[..., Client]]:
    """Makes clients: `client("dev-1")` enrols it; `client("claimed", tls)` takes a certificate."""
    made: list[Client] = []

    def make(claimed: str, tls: ClientTls | None = None) -> Client:
        made.append(column.client(claimed, tls or column.certificate(claimed)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def server(column: Column) -> Iterator[Inbox]:
    """The fleet server's own connection, and what it hears."""
    heard: list[tuple[str, bytes]] = []
    link = columns.link(column, heard)
    yield Inbox(link, heard)
    link.stop()
