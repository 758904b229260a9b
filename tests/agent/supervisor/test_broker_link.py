"""The connection against a broker that misbehaves: a socket with TLS that speaks as much MQTT as the rule needs."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from outrider_agent.config import Broker
from outrider_agent.supervisor.broker_link import QUEUED, BrokerLink, Connected, Credentials, Fact, Lost
from tests.agent.supervisor.house import Authority, until

CONNACK = b"\x20\x02\x00\x00"


class BadBroker:
    """Answers each connection with a CONNACK and these bytes, then hangs up, or holds it and says nothing more."""

    def __init__(self, authority: Authority, after: bytes, *, holds: bool = False) -> None:
        self._after, self._holds, self.connections = after, holds, 0
        self._closing = threading.Event()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(authority.directory / "server.pem", authority.directory / "server.key")
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._server.accept()
                with plain, self._context.wrap_socket(plain, server_side=True) as sock:
                    sock.recv(4096)
                    sock.sendall(CONNACK + self._after)
                    self.connections += 1
                    while self._holds and not self._closing.is_set():
                        sock.settimeout(0.05)
                        with suppress(TimeoutError):
                            sock.recv(65_536)
            except ssl.SSLError:
                continue
            except OSError:
                return

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()


@pytest.fixture
def credentials(authority: Authority) -> Credentials:
    authority.issue("dev-1", ExtendedKeyUsageOID.CLIENT_AUTH)
    folder: Path = authority.directory
    return Credentials(folder / "dev-1.pem", folder / "dev-1.key", folder / "ca.pem")


@pytest.fixture(
    params=[
        pytest.param(b"\x30\x03\x00\x09a", id="a topic longer than its packet"),
        pytest.param(b"\x30\x05\x00\x02\xff\xfe!", id="a topic that is not UTF-8"),
        pytest.param(b"\x90\x02\x00\x01", id="a SUBACK of nothing"),
        pytest.param(b"\x40\x01\x00", id="a PUBACK that is cut off"),
        pytest.param(b"\xf0\x00", id="a packet that is none"),
    ]
)
def bad(request: pytest.FixtureRequest, authority: Authority) -> Iterator[BadBroker]:
    made = BadBroker(authority, request.param)
    yield made
    made.close()


@pytest.fixture
def hanging_up(authority: Authority) -> Iterator[BadBroker]:
    """Accepts everybody, and nobody for long."""
    made = BadBroker(authority, b"")
    yield made
    made.close()


@pytest.fixture
def mute(authority: Authority) -> Iterator[BadBroker]:
    """Accepts everybody, and acknowledges nothing."""
    made = BadBroker(authority, b"", holds=True)
    yield made
    made.close()


def until_lost(link: BrokerLink, times: int) -> list[Fact]:
    facts: list[Fact] = []

    def enough() -> bool:
        facts.extend(link.facts())
        return len([fact for fact in facts if isinstance(fact, Lost)]) >= times

    until(enough, f"{times} connections", 20)
    return facts


def sessions(facts: list[Fact]) -> list[int]:
    return [fact.session for fact in facts if isinstance(fact, Connected)]


def test_nonsense_ends_a_connection_and_not_the_link(bad: BadBroker, credentials: Credentials) -> None:
    """AGT-SUP-4: whatever a broker sends, the connection is given up as lost and tried again."""
    link = BrokerLink("dev-1", Broker("127.0.0.1", bad.port), credentials, 1, lambda: None)
    link.start()
    facts = until_lost(link, 2)
    link.stop()
    assert len(sessions(facts)) >= 2


def test_a_broker_that_hangs_up_on_everybody_makes_no_storm(hanging_up: BadBroker, credentials: Credentials) -> None:
    """AGT-SUP-4: a connection that ended at once does not start the waits over."""
    link = BrokerLink("dev-1", Broker("127.0.0.1", hanging_up.port), credentials, 1, lambda: None)
    began_s = time.monotonic()
    link.start()
    until_lost(link, 5)
    link.stop()
    assert time.monotonic() - began_s >= 0.125 + 0.25 + 0.5 + 1.0


def test_what_waits_for_a_broker_is_bounded(mute: BadBroker, credentials: Credentials) -> None:
    """AGT-SUP-11: what is sent again to a broker that takes nothing is refused, and does not heap up."""
    link = BrokerLink("dev-1", Broker("127.0.0.1", mute.port), credentials, 1, lambda: None)
    link.start()
    until(lambda: sessions(list(link.facts())), "a connection")
    assert [link.publish("o1/03/dev-1/up/bulk", bytes(1000)) for _ in range(200)] == [True] * QUEUED + [False] * 136
    link.stop(0.1)


def test_sessions_of_the_next_start_are_higher(hanging_up: BadBroker, credentials: Credentials) -> None:
    """AGT-SUP-4: ten years of trying use up no more sessions than one start has."""
    first = []
    for starts in (1, 2):
        link = BrokerLink("dev-1", Broker("127.0.0.1", hanging_up.port), credentials, starts, lambda: None)
        link.start()
        first.append(sessions(until_lost(link, 1))[0])
        link.stop()
    assert first[1] - first[0] > 10 * 365 * 24 * 3600 / 22.5
