"""The end of a device on the server. Rules: docs/spec/enrolment.md."""

from __future__ import annotations

import json

import pytest

from outrider_fleet.app import admission, create_rollout, decommission, enrol, labels, orders, snapshots, tokens
from outrider_fleet.app.create_rollout import Wanted
from outrider_fleet.app.orders import Wish
from outrider_fleet.broker.errors import CalloutError
from outrider_fleet.errors import ConflictError, UnknownError
from outrider_fleet.store import erasure, releases
from outrider_protocol import topics
from outrider_protocol.messages import EnrolRequest
from tests.fleet.app.house import ALL, House, csr

DATA = ("predictions", "windows", "samples", "labels", "batches", "streams", "drift_status", "drift_events")


@pytest.fixture
def ended(house: House) -> list[str]:
    """Two devices that run release 1.0 and have sent all there is to send; the list is of ended sessions."""
    house.enrol("watch-1", "watch-2")
    digest = house.publish("1.0", 1)
    create_rollout.create(house.fleet, Wanted("har", "1.0", "all", ALL), "operator:test")
    for device in ("watch-1", "watch-2"):
        house.succeed(device)
        made = house.predict(device, digest, [0, 1])
        house.sample(device, digest, made)
        house.windows(device, digest, 1.0)
        house.alarm(device, digest)
        given = [{"prediction_id": name, "label": "run", "source": f"p/{device}"} for name in made]
        labels.add(house.fleet, "har", given, "operator:test")
    return []


def counts(house: House, device: str) -> dict[str, int]:
    return {t: house.value(f"SELECT count(*) FROM {t} WHERE device = ?", device) for t in DATA}


def removed(house: House, device: str) -> None:
    """The device reports that it has erased itself."""
    house.report(device, "removed")
    house.clock.pass_s(1.1)


def finish(house: House, ended: list[str]) -> None:
    decommission.step(house.fleet, lambda device: ended.append(device) or 1)


def test_a_device_erases_itself_first(house: House, ended: list[str]) -> None:
    """ERA-1: it is ordered to remove, may still connect, is ordered nothing else, and nothing is erased yet."""
    assert decommission.begin(house.fleet, "watch-1", "operator:anna") == "decommissioning"
    order = house.order("watch-1")
    assert order is not None
    assert order.action == "remove"
    assert admission.admit(house.fleet, "watch-1")
    house.publish("1.1", 2)
    create_rollout.create(house.fleet, Wanted("har", "1.1", "all", ALL), "operator:test")
    assert house.order("watch-1") == order
    orders.republish(house.fleet)
    assert house.order("watch-1") == order
    with house.fleet.change() as change:  # a rollout that began earlier comes to its next phase
        artifact = releases.artifact(change.connection, order.manifest)
        assert artifact is not None
        orders.issue(house.fleet, change, [Wish("watch-1", artifact, 1, {})])
    assert house.order("watch-1") == order
    finish(house, ended)
    assert min(counts(house, "watch-1").values()) > 0
    assert not ended


def test_then_everything_about_it_is_erased(house: House, ended: list[str]) -> None:
    """ERA-2: telemetry, samples, labels and the pseudonym go, the certificate is revoked, its session ended, what the
    broker retains is purged after that; another device's data stay.
    """
    other = counts(house, "watch-2")
    decommission.begin(house.fleet, "watch-1", "operator:anna")
    house.report("watch-1", "removed")
    finish(house, ended)
    assert not ended  # the ack goes first
    removed(house, "watch-1")
    finish(house, ended)
    assert ended == ["watch-1"]
    assert set(counts(house, "watch-1").values()) == {0}
    assert counts(house, "watch-2") == other
    row = house.rows("SELECT * FROM devices WHERE device = 'watch-1'")[0]
    assert (row["state"], row["pseudonym"], row["reported"], json.loads(row["facts"])) == (
        "decommissioned",
        "",
        None,
        {},
    )
    assert not admission.admit(house.fleet, "watch-1")
    assert admission.key_of(house.fleet, "watch-1") is None
    assert len(admission.revoked(house.fleet)) == 1
    for topic in (topics.desired("watch-1"), topics.presence("watch-1")):
        assert house.broker.retained()[topic] == b""
    assert not [row for row in house.rows("SELECT * FROM snapshot_rows") if row["prediction_id"].startswith("watch-1/")]
    finish(house, ended)
    assert ended == ["watch-1"]
    with pytest.raises(ConflictError):
        decommission.begin(house.fleet, "watch-1", "operator:anna")


def test_what_was_made_of_its_data_is_marked(house: House, ended: list[str]) -> None:
    """ERA-3: its snapshots, the runs that used them, their releases, what was trained on those; snapshots' rows keep
    their labels and lose the device.
    """
    made = snapshots.create(house.fleet, "har", "operator:anna")
    with house.fleet.change() as change:
        run = (
            "INSERT INTO runs (id, model, state, requested_by, reason, snapshot, base_version, version, counter, fence,"
        )
        run += " created_ms, updated_ms) VALUES (?, 'har', 'succeeded', 'x', '{}', ?, ?, ?, 9, 0, 0, 0)"
        change.connection.exec_driver_sql(run, ("run-000001", made["digest"], "1.0", "1.1"))
        change.connection.exec_driver_sql(run, ("run-000002", "sha256:other", "1.1", "1.2"))
        change.connection.exec_driver_sql(run, ("run-000003", "sha256:other", "1.0", "1.3"))
    for version, counter, name in (("1.1", 2, "run-000001"), ("1.2", 3, "run-000002"), ("1.3", 4, "run-000003")):
        house.publish(version, counter)
        with house.fleet.change() as change:
            change.connection.exec_driver_sql("UPDATE releases SET run = ? WHERE version = ?", (name, version))
    told = decommission.finish(house.fleet, "watch-1", "operator:anna", lambda _: 1)
    assert told["marked"] == [
        "release har/1.1", "release har/1.2", "run run-000001", "run run-000002", f"snapshot {made['digest']}",
    ]  # fmt: skip
    with house.fleet.look() as connection:
        assert ("release", "har/1.3") not in erasure.marks(connection)
    names = [row["prediction_id"] for row in house.rows("SELECT prediction_id FROM snapshot_rows")]
    assert sorted(name.partition("/")[0][:7] for name in names) == ["erased-", "erased-", "watch-2", "watch-2"]


@pytest.mark.parametrize("revoked", [False, True])
def test_a_lost_device_is_not_waited_for(house: House, ended: list[str], revoked: bool) -> None:
    """ERA-4: with `--now`, and for one that was revoked before, the server does its part at once."""
    if revoked:
        admission.revoke(house.fleet, "watch-1", "operator:anna")
    assert decommission.begin(house.fleet, "watch-1", "operator:anna", wait=revoked) == "erasing"
    decommission.finish(house.fleet, "watch-1", "operator:anna", lambda _: 0)
    assert set(counts(house, "watch-1").values()) == {0}
    with pytest.raises(UnknownError):
        decommission.begin(house.fleet, "nobody", "operator:anna")


def test_a_fleet_without_releases_can_order_nothing(house: House) -> None:
    """ERA-4: such a device has nothing to erase but its identity, which the revocation makes worthless."""
    house.enrol("watch-1")
    assert decommission.begin(house.fleet, "watch-1", "operator:anna") == "erasing"


def test_an_interrupted_erasure_is_finished(house: House, ended: list[str]) -> None:
    """ERA-5: where the broker could not end the session, the next step does; meanwhile nobody is let in."""
    decommission.begin(house.fleet, "watch-1", "operator:anna")
    removed(house, "watch-1")

    def away(_device: str) -> int:
        raise CalloutError("away")

    with pytest.raises(CalloutError):
        decommission.step(house.fleet, away)
    assert not admission.admit(house.fleet, "watch-1")
    finish(house, ended)
    assert house.value("SELECT state FROM devices WHERE device = 'watch-1'") == "decommissioned"


def test_an_erasure_at_once_survives_the_server(house: House, ended: list[str]) -> None:
    """ERA-4 and ERA-5: a server that was killed after the order to erase at once does it when it is back."""
    decommission.begin(house.fleet, "watch-1", "operator:anna", wait=False)
    assert not admission.admit(house.fleet, "watch-1")
    house.restart()
    finish(house, ended)
    assert house.value("SELECT state FROM devices WHERE device = 'watch-1'") == "decommissioned"
    assert set(counts(house, "watch-1").values()) == {0}


def test_nothing_comes_between_an_erasure_and_its_end(house: House, ended: list[str]) -> None:
    """ERA-5: meanwhile the name can neither be enrolled nor revoked, which would leave the rest undone; who is slower
    at the end writes nothing.
    """
    decommission.begin(house.fleet, "watch-1", "operator:anna", wait=False)
    for token in (tokens.create(house.fleet, "device", "", device=bound) for bound in (None, "watch-1")):
        with pytest.raises(ConflictError, match="being erased"):
            enrol.enrol(house.fleet, EnrolRequest(token, "watch-1", "x86-64", csr()))
    with pytest.raises(ConflictError):
        admission.revoke(house.fleet, "watch-1", "operator:anna")

    def slow(_device: str) -> int:
        finish(house, ended)
        return 0

    decommission.finish(house.fleet, "watch-1", "operator:anna", slow)
    assert house.value("SELECT state FROM devices WHERE device = 'watch-1'") == "decommissioned"
    assert house.value("SELECT count(*) FROM audit WHERE action = 'device.erased'") == 1


def test_it_may_come_back_as_a_stranger(house: House, ended: list[str]) -> None:
    """ERA-2: a device of the same name that enrols later has another pseudonym, and orders above the old ones."""
    before = house.value("SELECT pseudonym FROM devices WHERE device = 'watch-1'")
    decommission.begin(house.fleet, "watch-1", "operator:anna")
    last = house.order("watch-1")
    assert last is not None
    removed(house, "watch-1")
    finish(house, ended)
    token = tokens.create(house.fleet, "device", "")
    enrol.enrol(house.fleet, EnrolRequest(token, "watch-1", "x86-64", csr()))
    assert house.value("SELECT pseudonym FROM devices WHERE device = 'watch-1'") not in ("", before)
    create_rollout.create(house.fleet, Wanted("har", "1.0", "all", ALL), "operator:test")
    again = house.order("watch-1")
    assert again is not None
    assert (again.action, again.seq > last.seq) == ("run", True)
