"""The broker suite: what nobody may reach past its own topics, on every supported broker, with real clients.

A broker is supported when this file passes on it (docs/guides/brokers.md). What counts is what arrives, not what was
acknowledged: brokers differ in whether they refuse aloud.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from outrider_fleet.broker.errors import RevocationError
from outrider_fleet.broker.link import ClientTls
from outrider_fleet.pki.ca import CertificateAuthority
from outrider_protocol import topics
from outrider_protocol.errors import MalformedError
from tests.conformance.broker.columns import MOSQUITTO, Column
from tests.conformance.broker.conftest import BROKERS
from tests.fleet.broker.house import Client, Inbox, until

MakeClient = Callable[..., Client]
_NUMBERS = itertools.count()


def marker() -> bytes:
    """A payload that occurs once."""
    return b"marker %d" % next(_NUMBERS)


def lets_in(client: Client) -> bool:
    """Whether a session stands: let in, and still there after the broker has answered a round trip."""
    return client.connect() and client.subscribe("o1/trust/online") and not client.ended.is_set()


def settle(server: Inbox, device: Client, device_id: str) -> None:
    """All that was sent before has been delivered: one message each way, in order with the rest."""
    down = marker()
    server.link.publish(topics.ack(device_id), down).wait(5)
    assert until(lambda: device.received.get(topics.ack(device_id)) == down)


@pytest.mark.skipif(MOSQUITTO is None, reason="the mosquitto column was not run: no mosquitto on this machine")
def test_the_mosquitto_column_is_run() -> None:
    """BRK-24: where there is no mosquitto, this one line says so for the whole column, here and in tests/e2e."""
    assert "mosquitto" in BROKERS


def test_a_device_does_its_work(column: Column, client: MakeClient, server: Inbox) -> None:
    """BRK-24: it publishes upwards, and reads its own downward topics, chunks and trust metadata."""
    device = client("dev-1")
    server.link.publish(topics.desired("dev-1"), b"order", retain=True).wait(5)
    server.link.publish(topics.blob("ab" * 32, 0), b"chunk", retain=True).wait(5)
    server.link.publish(topics.TRUST_ONLINE, b"trust", retain=True).wait(5)
    assert device.connect()
    for name in (topics.all_down("dev-1"), topics.blob("ab" * 32, 0), topics.TRUST_ONLINE):
        assert device.subscribe(name)
    assert device.wait_for(topics.desired("dev-1")) == b"order"
    assert device.wait_for(topics.blob("ab" * 32, 0)) == b"chunk"
    assert device.wait_for(topics.TRUST_ONLINE) == b"trust"
    for leaf in (topics.bulk, topics.event, topics.state, topics.presence):
        device.publish(leaf("dev-1"), b"said")
        assert server.wait_for(leaf("dev-1"), b"said")


# ---------------------------------------------------------------- who gets in


def _no_certificate(column: Column) -> ClientTls:
    return ClientTls(column.fleet_tls.ca, Path("/nonexistent.pem"), Path("/nonexistent.key"))


def _other_authority(column: Column) -> ClientTls:
    other = CertificateAuthority.create(column.directory / f"other-{time.monotonic_ns()}", fleet="test")
    return column.certificate("dev-1", other)


def _expired(column: Column) -> ClientTls:
    return column.certificate("dev-1", days=-0.01)


def _server_certificate(column: Column) -> ClientTls:
    chain, key = column.ca.issue_server(["dev-1"]).write(column.directory, "as-client")
    return ClientTls(column.fleet_tls.ca, chain, key)


def _former_key(column: Column) -> ClientTls:
    former = column.certificate("dev-9")
    column.certificate("dev-9")
    return former


@pytest.mark.parametrize("tls", [_no_certificate, _other_authority, _expired, _server_certificate])
def test_nobody_gets_in_without_a_good_certificate(
    column: Column, client: MakeClient, tls: Callable[[Column], ClientTls]
) -> None:
    """BRK-24: none, another authority's, an expired one, a server's: no session."""
    assert not lets_in(client("dev-1", tls(column)))


def test_a_former_key_gets_nobody_in(column: Column, client: MakeClient) -> None:
    """BRK-24: after enrolling anew, the certificate of the former key opens nothing."""
    former = _former_key(column)
    assert until(lambda: not lets_in(client("dev-9", former)), 2)


@pytest.mark.parametrize("claimed", ["dev-2", "_fleet", "_canary", "", "dev-1 ", "auth"])
def test_a_claimed_name_gives_nothing(column: Column, client: MakeClient, server: Inbox, claimed: str) -> None:
    """BRK-24: a client id other than the certificate's name is refused or replaced: it ends nobody's session, and what
    is sent and read under it is what the certificate's own name may.
    """
    victim = client("dev-2")
    assert victim.connect()
    assert victim.subscribe(topics.all_down("dev-2"))
    liar = client(claimed, column.certificate("dev-1"))
    if liar.connect():
        for name in (topics.all_down("dev-2"), topics.ALL_UP):
            liar.subscribe(name)
        liar.publish(topics.bulk("dev-2"), b"forged")
        liar.publish(topics.desired("dev-2"), b"forged", retain=True)
    secret = marker()
    victim.publish(topics.bulk("dev-2"), secret)
    assert server.wait_for(topics.bulk("dev-2"), secret)
    settle(server, victim, "dev-2")
    assert not victim.ended.is_set()
    assert server.link.connected
    assert b"forged" not in [*victim.received.values(), *(payload for _, payload in server.messages)]
    assert not {topics.bulk("dev-2"), topics.ack("dev-2")} & set(liar.received)


def test_a_claimed_name_ends_nobodys_session(column: Column, client: MakeClient) -> None:
    """BRK-24: with a good certificate of its own, a device that claims another's client id does not take its place."""
    victim = client("dev-2")
    assert victim.connect()
    assert victim.subscribe(topics.all_down("dev-2"))
    lets_in(client("dev-2", column.certificate("dev-1")))
    assert victim.subscribe(topics.TRUST_ONLINE)
    assert not victim.ended.is_set()


# ---------------------------------------------------------------- what they reach

FORGED = [
    topics.bulk("dev-2"),
    topics.presence("dev-2"),
    topics.desired("dev-1"),
    topics.desired("dev-2"),
    topics.ack("dev-2"),
    topics.TRUST_ONLINE,
    topics.trust_root(7),
    "o1/trust/har",
    topics.blob("cd" * 32, 0),
    "o1/99/dev-1/up/bulk",
    "o1/99/dev-2/up/bulk",
    "$SYS/broker/uptime",
    "$SYS/REQ/USER/AUTH",
    "$MQTT/sub/x",
    "$JS/API/STREAM/PURGE/$MQTT_rmsgs",
    "$share/thieves/o1/20/dev-2/dn/desired",
]


@pytest.mark.parametrize("topic", FORGED)
def test_forging_reaches_nobody(column: Column, client: MakeClient, server: Inbox, topic: str) -> None:
    """BRK-24: what a device publishes outside its own upward topics reaches neither a device nor the server, neither
    now nor retained. (A wrong shard of its own is no topic of anybody: the server refuses it by name.)
    """
    forger, victim = client("dev-1"), client("dev-2")
    assert forger.connect()
    assert victim.connect()
    wanted = (topics.all_down("dev-2"), "o1/trust/#", topics.blob("cd" * 32, 0))
    for name in wanted:
        assert victim.subscribe(name)
    forger.publish(topic, b"forged", retain=True)
    if not forger.ended.is_set():
        last = marker()
        forger.publish(topics.event("dev-1"), last)
        assert server.wait_for(topics.event("dev-1"), last)
    settle(server, victim, "dev-2")
    late = client("dev-2")
    assert late.connect()
    for name in wanted:
        assert late.subscribe(name)
    settle(server, late, "dev-2")
    assert b"forged" not in [*victim.received.values(), *late.received.values()]
    assert not [name for name, payload in server.messages if payload == b"forged" and _understood(name)]


def _understood(topic: str) -> bool:
    try:
        topics.parse(topic)
    except MalformedError:
        return False
    return True


SPYING = [
    "#",
    "+/#",
    "o1/#",
    "o1/+/+/#",
    "o1/+/+/dn/#",
    "o1/+/+/up/#",
    topics.all_down("dev-2"),
    topics.desired("dev-2"),
    topics.bulk("dev-2"),
    topics.presence("dev-2"),
    "$share/thieves/o1/+/+/up/#",
    "$share/thieves/o1/+/+/dn/#",
    f"$share/outrider-callout/{topics.all_down('dev-2')}",
    "$SYS/#",
    "$MQTT/#",
]


@pytest.mark.parametrize("filters", SPYING)
def test_eavesdropping_and_stealing_bring_nothing(
    column: Column, client: MakeClient, server: Inbox, filters: str
) -> None:
    """BRK-24: whatever filter a device asks for, it sees no other device's topic, and takes no message from its owner;
    wildcards, shared queues and what is retained included.
    """
    victim, spy = client("dev-2"), client("dev-1")
    server.link.publish(topics.desired("dev-2"), b"retained secret", retain=True).wait(5)
    assert victim.connect()
    assert victim.subscribe(topics.all_down("dev-2"))
    assert spy.connect()
    spy.subscribe(filters)
    if spy.ended.is_set():
        spy = client("dev-1")
        assert spy.connect()
    secrets = [marker() for _ in range(6)]
    for secret in secrets:
        victim.publish(topics.bulk("dev-2"), secret)
        assert server.wait_for(topics.bulk("dev-2"), secret)
        server.link.publish(topics.ack("dev-2"), secret).wait(5)
        assert until(lambda secret=secret: victim.received.get(topics.ack("dev-2")) == secret)
    assert spy.subscribe(topics.all_down("dev-1"))
    settle(server, spy, "dev-1")
    foreign = {name for name in spy.received if not name.startswith(f"{topics.ROOT}/03/dev-1/dn/")}
    assert not {name for name in foreign if not name.startswith((f"{topics.ROOT}/blob/", f"{topics.ROOT}/trust/"))}


# ---------------------------------------------------------------- revocation


def test_revoked_while_connected(column: Column, client: MakeClient, server: Inbox) -> None:
    """BRK-25: the live session ends within 2 s, the next connect is refused, everybody else stays connected."""
    others = [client(f"other-{n}") for n in range(5)]
    tls = column.certificate("dev-4")
    revoked = client("dev-4", tls)
    assert all(each.connect() for each in [*others, revoked])
    began = time.perf_counter()
    column.records.withdraw("dev-4")
    assert column.gate.revoke("dev-4") == 1
    assert revoked.ended.wait(max(0.0, 2 - (time.perf_counter() - began)))
    print(f"{column.name}: revoked session ended after {(time.perf_counter() - began) * 1000:.0f} ms")
    assert not lets_in(client("dev-4", tls))
    assert not any(each.ended.is_set() for each in others)
    assert server.link.connected
    assert lets_in(client("dev-4"))  # enrolled anew


def test_a_device_that_reconnects_at_once_stays_out(column: Column, client: MakeClient) -> None:
    """BRK-25: one that connects again and again while it is being revoked has no session when the call returns."""
    tls = column.certificate("dev-5")
    stubborn = [client("dev-5", tls)]
    assert stubborn[0].connect()
    column.records.withdraw("dev-5")
    stubborn[0].mqtt.on_disconnect = lambda *_: stubborn.append(client("dev-5", tls))
    column.gate.revoke("dev-5")
    assert not any(lets_in(each) for each in stubborn[1:])
    assert not lets_in(client("dev-5", tls))


def test_revocation_outlives_the_broker(column: Column, client: MakeClient) -> None:
    """BRK-25: a broker that was killed and comes back still refuses whom it refused."""
    tls, other = column.certificate("dev-6"), column.certificate("dev-7")
    column.records.withdraw("dev-6")
    column.gate.revoke("dev-6")
    column.restart()
    assert until(lambda: lets_in(client("dev-7", other)))
    assert not lets_in(client("dev-6", tls))


def test_a_list_that_nobody_loads_is_no_revocation(column: Column, client: MakeClient) -> None:
    """BRK-26: where the broker cannot be told, the operator is: the revocation does not look done."""
    if column.name != "mosquitto":
        return  # it keeps no list
    pid = column.directory / "mosquitto" / "mosquitto.pid"
    told = pid.read_text()
    tls = column.certificate("dev-8")
    assert client("dev-8", tls).connect()
    pid.write_text("")
    column.records.withdraw("dev-8")
    with pytest.raises(RevocationError) as caught:
        column.gate.revoke("dev-8")
    assert "SIGHUP" in caught.value.hint
    pid.write_text(told)
    assert column.gate.revoke("dev-8") == 1
