"""The server's own connection: nothing retained is lost, and it is back at once."""

import threading
from collections.abc import Callable

import pytest

from outrider_fleet.broker.errors import LinkError
from outrider_fleet.broker.link import BrokerLink
from outrider_protocol import topics
from tests.fleet.broker.house import Client, House, Inbox, until


def test_publishes_again_what_was_not_acknowledged(house: House, client: Callable[..., Client], server: Inbox) -> None:
    """BRK-16: retained messages published while the broker is away arrive after its return."""
    tls = house.device_tls("dev-1")
    house.broker.kill(outage_s=0.3)
    publications = [server.link.publish(f"o1/trust/roots/{n}", b"root %d" % n, retain=True) for n in range(1, 101)]
    for publication in publications:
        publication.wait(15)
    device = client("dev-1", tls=tls)
    assert device.connect()
    assert device.subscribe("o1/trust/#")
    assert until(lambda: all(f"o1/trust/roots/{n}" in device.received for n in range(1, 101)))


def test_reconnects_at_once_and_says_so(house: House) -> None:
    """BRK-17: after the broker's return the link is subscribed again; `on_connected` hears both changes."""
    heard: list[bool] = []
    link = BrokerLink(
        house.broker.mqtt_address,
        house.fleet_tls,
        lambda *_: None,
        on_connected=heard.append,
    )
    link.start()
    house.broker.kill()
    assert until(lambda: heard == [True, False, True])
    link.wait_connected(5)
    link.stop()


def test_any_thread_may_publish(house: House, client: Callable[..., Client], server: Inbox) -> None:
    """BRK-18: publishes of many threads all arrive, each whole."""
    device = client("dev-2")
    assert device.connect()
    assert device.subscribe("o1/trust/#")

    def publish(number: int) -> None:
        for n in range(50):
            server.link.publish(f"o1/trust/roots/{number * 1000 + n}", b"x" * 1000, retain=True)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {f"o1/trust/roots/{number * 1000 + n}" for number in range(1, 5) for n in range(50)}
    assert until(lambda: wanted <= set(device.received))
    assert all(device.received[topic] == b"x" * 1000 for topic in wanted)


def test_absent_broker_is_a_named_error(house: House) -> None:
    """BRK-19: a link that cannot connect says so within its time."""
    link = BrokerLink(("127.0.0.1", 1), house.fleet_tls, lambda *_: None)
    with pytest.raises(LinkError, match="not connected"):
        link.start(timeout_s=0.2)
    link.stop()


def test_what_was_never_sent_says_so(house: House) -> None:
    """BRK-19: a QoS 0 publish without a connection is lost, and waiting for it is a named error."""
    link = BrokerLink(("127.0.0.1", 1), house.fleet_tls, lambda *_: None)
    with pytest.raises(LinkError):
        link.publish(topics.ack("dev-1"), b"{}").wait(1)


def test_only_blobs_are_read_back(house: House, server: Inbox) -> None:
    """BRK-19: reading retained messages is for blobs alone."""
    with pytest.raises(LinkError):
        server.link.read_retained(topics.desired("dev-1"), 1, 1)
