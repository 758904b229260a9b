"""What goes into a folder for devices without a network."""

from __future__ import annotations

import pytest

from outrider_fleet.app import air_gap, create_rollout
from outrider_fleet.app.create_rollout import Wanted
from outrider_fleet.errors import ConflictError
from outrider_fleet.store.tables import orders
from outrider_protocol import documents, ids, topics
from tests.fleet.app.house import ALL, House


def order_new(house: House) -> None:
    house.publish("2.0", 2)
    create_rollout.create(house.fleet, Wanted("har", "2.0", "all", ALL), "operator:test")


def test_the_same_bytes_as_the_broker_has(running: House) -> None:
    """AIR-1: documents, envelopes and blobs are those that the broker was given."""
    order_new(running)
    found = air_gap.export(running.fleet, ["watch-1", "watch-2"], "operator:test")
    retained = running.broker.retained()
    assert set(found.orders) == {"watch-1", "watch-2"}
    for device, envelope in found.orders.items():
        assert envelope.encode() == retained[topics.desired(device)]
    assert found.documents["har.json"].encode() == retained[topics.trust_model("har")]
    assert found.documents[documents.ONLINE].encode() == retained[topics.TRUST_ONLINE]
    assert {documents.ONLINE, "1.root.json", "har.json"} == set(found.documents)
    assert set(running.broker.blobs) <= {ids.hex_of(digest) for digest in found.blobs}
    assert all(running.home.blob(ids.hex_of(d)).stat().st_size == size for d, size in found.blobs.items())
    assert [item["version"] for item in found.releases] == ["2.0"]


def test_every_device_with_a_live_order(running: House) -> None:
    """AIR-1: without names all of them, a revoked one not; the folder's age is bounded by orders and timestamp."""
    order_new(running)
    found = air_gap.export(running.fleet, [], "operator:test")
    assert len(found.orders) == 8
    assert running.clock.now_ms < found.good_until_ms <= running.clock.now_ms + 7 * 86_400_000


def test_a_device_without_an_order_is_named(house: House) -> None:
    """AIR-1: nothing to take is an error that says for whom."""
    house.enrol("watch-1")
    for wanted, said in ((["watch-1"], "watch-1"), ([], "no device"), (["watch-9"], "watch-9")):
        with pytest.raises(ConflictError, match=said) as caught:
            air_gap.export(house.fleet, wanted, "operator:test")
        assert caught.value.hint


def test_an_expired_order_is_signed_anew(running: House) -> None:
    """AIR-2: while its execution still waits for the device, the folder gets a fresh one."""
    order_new(running)
    first = air_gap.export(running.fleet, ["watch-1"], "operator:test").orders["watch-1"]
    with running.fleet.change() as change:
        change.connection.execute(orders.update().values(exp_ms=change.now_ms))
    second = air_gap.export(running.fleet, ["watch-1"], "operator:test")
    assert second.orders["watch-1"] != first
    assert second.good_until_ms > running.clock.now_ms
