"""The callout on a real nats-server: who gets in, what they reach, and how they are thrown out."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client as Stranger

from outrider_fleet.broker.link import ClientTls
from outrider_fleet.pki.ca import CertificateAuthority
from outrider_protocol import topics
from tests.fleet.broker.house import Client, House, Inbox

MakeClient = Callable[..., Client]


def test_device_reaches_its_own_topics(house: House, client: MakeClient, server: Inbox) -> None:
    """BRK-1: a device publishes upwards, reads its own downward topics, blobs and trust."""
    device = client("dev-1")
    began = time.perf_counter()
    assert device.connect()
    print(f"connect with callout: {(time.perf_counter() - began) * 1000:.1f} ms")
    assert device.subscribe(topics.all_down("dev-1"))
    server.link.publish(topics.ack("dev-1"), b"{}").wait(5)
    server.link.publish(topics.blob("ab" * 32, 0), b"chunk", retain=True).wait(5)
    server.link.publish(topics.TRUST_ONLINE, b"trust", retain=True).wait(5)
    assert device.subscribe(topics.blob("ab" * 32, 0))
    assert device.subscribe("o1/trust/#")
    assert device.wait_for(topics.ack("dev-1")) == b"{}"
    assert device.wait_for(topics.blob("ab" * 32, 0)) == b"chunk"
    assert device.wait_for(topics.TRUST_ONLINE) == b"trust"
    device.publish(topics.bulk("dev-1"), b"batch")
    assert server.wait_for(topics.bulk("dev-1"), b"batch")


def _no_certificate(house: House) -> ClientTls:
    return ClientTls(house.fleet_tls.ca, Path("/nonexistent.pem"), Path("/nonexistent.key"))


def _other_authority(house: House) -> ClientTls:
    other = CertificateAuthority.create(house.directory / f"other-{time.monotonic_ns()}", fleet="test")
    return house.device_tls("dev-1", other)


def _expired(house: House) -> ClientTls:
    return house.device_tls("dev-1", days=-0.01)


def _server_certificate(house: House) -> ClientTls:
    chain, key = house.ca.issue_server(["dev-1"]).write(house.directory, "as-client")
    return ClientTls(house.fleet_tls.ca, chain, key)


@pytest.mark.parametrize("tls", [_no_certificate, _other_authority, _expired, _server_certificate])
def test_bad_certificate_is_refused(house: House, client: MakeClient, tls: Callable[[House], ClientTls]) -> None:
    """BRK-2: no certificate, another authority's, an expired one, or a server's: no connection."""
    assert not client("dev-1", tls=tls(house)).connect()


@pytest.mark.parametrize("claimed", ["dev-2", "_fleet", "dev-1 ", "auth", "sys"])
def test_client_id_is_the_certificates_name(house: House, client: MakeClient, claimed: str) -> None:
    """BRK-3: a client id other than the certificate's common name is refused, also that of the server."""
    house.device_tls("dev-2")
    assert not client(claimed, tls=house.device_tls("dev-1")).connect()


@pytest.mark.parametrize(
    "topic",
    [
        topics.bulk("dev-2"),
        topics.presence("dev-2"),
        topics.desired("dev-1"),
        topics.desired("dev-2"),
        topics.ack("dev-1"),
        topics.TRUST_ONLINE,
        "o1/trust/har",
        topics.blob("cd" * 32, 0),
        "o1/99/dev-1/up/bulk",
        "$SYS/REQ/USER/AUTH",
        "$MQTT/sub/x",
        "$JS/API/STREAM/PURGE/$MQTT_rmsgs",
    ],
)
def test_forged_publish_reaches_nobody(house: House, client: MakeClient, server: Inbox, topic: str) -> None:
    """BRK-4: what a device publishes outside its own upward topics is dropped, retained or not."""
    forger, victim = client("dev-1"), client("dev-2")
    assert forger.connect()
    assert victim.connect()
    for name in (topics.all_down("dev-2"), "o1/trust/#", topics.blob("cd" * 32, 0)):
        assert victim.subscribe(name)
    marker = topic.encode()
    forger.publish(topic, b"forged", retain=True)
    if forger.ended.is_set():
        assert client("dev-1").connect()  # thrown out: admitted again only as itself
        return
    forger.publish(topics.event("dev-1"), marker)
    assert server.wait_for(topics.event("dev-1"), marker)  # in order: the forged one would have come first
    server.link.publish(topics.ack("dev-2"), marker).wait(5)
    assert victim.wait_for(topics.ack("dev-2")) == marker
    assert b"forged" not in [payload for _, payload in server.messages]
    assert b"forged" not in victim.received.values()


@pytest.mark.parametrize(
    "filters",
    [
        "#",
        "+/#",
        "o1/#",
        "o1/+/+/dn/#",
        "o1/+/+/up/#",
        topics.all_down("dev-2"),
        topics.bulk("dev-1"),
        topics.desired("dev-2"),
        "o1/blob/#",
        "$SYS/#",
        "$MQTT/#",
        "$share/thieves/o1/+/+/up/#",
    ],
)
def test_eavesdropping_is_refused(house: House, client: MakeClient, server: Inbox, filters: str) -> None:
    """BRK-5: a filter that reaches beyond a device's own topics is refused, wildcards and shared queues too."""
    spy = client("dev-1")
    assert spy.connect()
    assert not spy.subscribe(filters)


def test_stranger_is_refused(house: House, client: MakeClient) -> None:
    """BRK-6: a good certificate of a device that the server does not admit is refused."""
    tls = house.device_tls("dev-unknown")
    house.admitted.discard("dev-unknown")
    assert not client("dev-unknown", tls=tls).connect()


def test_former_key_is_refused(house: House, client: MakeClient) -> None:
    """BRK-7: after enrolling anew with another key, the former certificate is refused."""
    former, present = house.device_tls("dev-3"), house.device_tls("dev-3")
    assert not client("dev-3", tls=former).connect()
    assert client("dev-3", tls=present).connect()


def test_revoked_device_is_thrown_out(house: House, client: MakeClient) -> None:
    """BRK-8: revoking ends the live session within 2 s, refuses the next connect, and touches nobody else."""
    tls = house.device_tls("dev-4")
    revoked, other = client("dev-4", tls=tls), client("dev-5")
    assert revoked.connect()
    assert other.connect()
    began = time.perf_counter()
    house.callout.deny("dev-4")
    assert house.thread.kick("dev-4") == 1
    assert revoked.ended.wait(2)
    print(f"revoked session ended after {(time.perf_counter() - began) * 1000:.1f} ms")
    assert not client("dev-4", tls=tls).connect()
    assert not other.ended.is_set()
    house.callout.allow("dev-4")
    assert client("dev-4", tls=tls).connect()


def test_revoke_leaves_the_decision_to_the_server(house: House, client: MakeClient) -> None:
    """BRK-8: `revoke` ends what is there; afterwards the server's own answer counts, also a new yes."""
    tls = house.device_tls("dev-6")
    assert client("dev-6", tls=tls).connect()
    house.admitted.discard("dev-6")
    assert house.thread.revoke("dev-6") == 1
    assert not client("dev-6", tls=tls).connect()
    house.admitted.add("dev-6")
    assert client("dev-6", tls=tls).connect()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"user": "dev-1"},
        {"user": "auth", "password": "guess"},
        {"user": "sys", "password": ""},
        {"token": "x"},
    ],
)
def test_the_nats_port_admits_no_client(house: House, options: dict[str, str]) -> None:
    """BRK-9: on the callout's own port nobody gets in without its random passwords."""
    asyncio.run(_try_nats(house.broker.nats_url, options))


async def _try_nats(url: str, options: dict[str, str]) -> None:
    stranger = Stranger()
    try:
        with pytest.raises(nats.errors.Error):
            await stranger.connect(url, allow_reconnect=False, error_cb=_ignore, **options)
    finally:
        await stranger.close()


async def _ignore(_error: Exception) -> None:
    return None
