"""Rollouts at work: rows, orders and what the broker holds. Rules: docs/spec/rollout.md."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from outrider_fleet.app import create_rollout, orders, rollouts
from outrider_fleet.app.create_rollout import Wanted
from outrider_fleet.domain.rollout_state import Action
from outrider_fleet.errors import BelowFloorError, GateError, InvalidRequestError, UnknownError, WithdrawnError
from outrider_fleet.signing import ceremony
from outrider_fleet.store import rollouts as stored
from outrider_protocol import topics
from outrider_protocol.errors import ParameterRangeError
from tests.fleet.app.house import ALL, CANARY, House

DEVICES = [f"watch-{n}" for n in range(1, 9)]


def start(house: House, version: str, spec: dict[str, object] = CANARY) -> str:
    return create_rollout.create(house.fleet, Wanted("har", version, "all", spec), "operator:test")


def exposed(house: House, rollout: str) -> list[str]:
    query = "SELECT device FROM executions WHERE rollout = ? AND purpose = 'rollout' AND ordered_ms IS NOT NULL"
    return sorted(row["device"] for row in house.rows(query, rollout))


def state(house: House, rollout: str) -> str:
    return str(house.value("SELECT state FROM rollouts WHERE id = ?", rollout))


def good_canary(house: House, device: str) -> None:
    house.report(device, "shadowing", shadow={"n": 20, "disagree": 1, "drifted": False})
    house.succeed(device)


def test_first_rollout_completes(running: House) -> None:
    """ROL-17: every device attests the digest that the server calls succeeded."""
    found = running.rows("SELECT state, digest, attest_digest FROM executions")
    assert {row["state"] for row in found} == {"succeeded"}
    assert all(row["digest"] == row["attest_digest"] for row in found)
    assert running.value("SELECT state FROM rollouts") == "completed"


def test_canary_then_all(running: House) -> None:
    """ROL-1 and ROL-2: two devices, and the others only after the gates have spoken."""
    running.publish("1.1", 2)
    rollout = start(running, "1.1")
    canaries = exposed(running, rollout)
    assert len(canaries) == 2
    good_canary(running, canaries[0])
    assert exposed(running, rollout) == canaries
    good_canary(running, canaries[1])
    assert exposed(running, rollout) == DEVICES
    assert running.value("SELECT max(exposed) FROM rollout_events WHERE rollout = ? AND phase = 0", rollout) == 2


def test_shadow_disagreement_aborts(running: House) -> None:
    """ROL-3 and ROL-6: a bad candidate never leaves the canary, and every canary is ordered its former release."""
    bad = running.publish("1.1", 2)
    rollout = start(running, "1.1")
    canaries = exposed(running, rollout)
    shadow = {"n": 20, "disagree": 16, "drifted": False}
    running.report(canaries[0], "failed_unchanged", reason="shadow_disagreement", shadow=shadow)
    assert state(running, rollout) == "aborted"
    assert exposed(running, rollout) == canaries
    why = running.value("SELECT why FROM rollouts WHERE id = ?", rollout)
    assert "shadow: 16 of 20 bad" in why
    waiting = running.order(canaries[1])
    assert waiting is not None
    assert waiting.release == "1.0"
    assert waiting.manifest != bad
    assert (
        running.value("SELECT state FROM executions WHERE rollout = ? AND device = ?", rollout, canaries[1])
        == "canceled"
    )


def test_canary_prefers_undrifted_devices(running: House) -> None:
    """ROL-4: drifted devices cannot vote, so they come last."""
    digest = running.value("SELECT digest FROM artifacts")
    for device in DEVICES[:6]:
        running.alarm(device, digest)
    running.publish("1.1", 2)
    assert exposed(running, start(running, "1.1")) == DEVICES[6:]


def test_canary_prefers_least_evidence(running: House) -> None:
    """ROL-4 and ING-12: of the devices without an alarm those come last whose detectors have gathered much already."""
    digest = running.value("SELECT digest FROM artifacts")
    for device in DEVICES[2:]:
        running.windows(device, digest, 850.0)
    for device in DEVICES[:2]:
        running.windows(device, digest, 850.0)
        running.windows(device, digest, 3.2)
        running.windows(device, "sha256:" + "cd" * 32, 999.0)
    running.publish("1.1", 2)
    assert sorted(exposed(running, start(running, "1.1"))) == DEVICES[:2]


def test_a_deviating_device_counts_as_drifted(running: House) -> None:
    """ROL-19: its shadow refused what all others run: from then on it has drifted, and somebody shall look at it."""
    running.publish("1.1", 2)
    rollout = start(running, "1.1", {**CANARY, "gates": {"shadow": {"max_ratio": 0.4, "min_sample": 20}}})
    canaries = exposed(running, rollout)
    for device in canaries:
        good_canary(running, device)
    odd, *others = [device for device in DEVICES if device not in canaries]
    shadow = {"n": 20, "disagree": 16, "drifted": False}
    running.report(odd, "failed_unchanged", reason="shadow_disagreement", shadow=shadow)
    assert running.rows("SELECT * FROM drift_status WHERE drifted = 1") == []
    for device in others:
        good_canary(running, device)
    assert state(running, rollout) == "completed"
    assert [row["device"] for row in running.rows("SELECT device FROM drift_status WHERE drifted = 1")] == [odd]
    (event,) = running.rows("SELECT device, text, closed_ms FROM maintenance_events")
    assert (event["device"], event["closed_ms"]) == (odd, None)
    assert "16 of 20" in event["text"]
    assert "7 devices run" in event["text"]


def test_abort_without_former_release_takes_the_order_away(house: House) -> None:
    """ROL-6: a device that has not read it never will."""
    house.enrol("watch-1")
    house.publish("1.0", 1)
    rollout = start(house, "1.0", ALL)
    assert house.order("watch-1") is not None
    rollouts.act(house.fleet, rollout, Action.ABORT, "wrong model", "operator:test")
    assert house.broker.retained()[topics.desired("watch-1")] == b""
    assert house.value("SELECT withdrawn_ms FROM orders") is not None
    assert orders.republish(house.fleet) == 0


def test_newer_rollout_supersedes(running: House) -> None:
    """ROL-9: the older one exposes nobody any more; a device's unfinished execution is superseded."""
    running.publish("1.1", 2)
    older = start(running, "1.1")
    canaries = exposed(running, older)
    running.publish("1.2", 3)
    newer = start(running, "1.2", ALL)
    assert state(running, older) == "superseded"
    assert exposed(running, newer) == DEVICES
    states = running.rows("SELECT device, state FROM executions WHERE rollout = ?", older)
    assert {row["state"] for row in states if row["device"] in canaries} == {"superseded"}
    assert {row["state"] for row in states if row["device"] not in canaries} == {"canceled"}


def test_roll_back_the_fleet(running: House) -> None:
    """ROL-10: everybody is ordered 1.0 again; it has ended when they run it."""
    running.publish("1.1", 2)
    rollout = start(running, "1.1", ALL)
    for device in DEVICES:
        running.succeed(device)
    assert state(running, rollout) == "completed"
    rollouts.act(running.fleet, rollout, Action.ROLL_BACK, "recalled", "operator:test")
    assert state(running, rollout) == "rolling_back"
    for device in DEVICES:
        running.succeed(device)
    assert state(running, rollout) == "rolled_back"
    assert {row["version"] for row in running.rows("SELECT version FROM devices")} == {"1.0"}


def test_killed_server_goes_on(running: House) -> None:
    """ROL-12: after a restart the rollout goes on, and no order sequence is used twice."""
    running.publish("1.1", 2)
    rollout = start(running, "1.1")
    canaries = exposed(running, rollout)
    good_canary(running, canaries[0])
    running.restart()
    assert orders.republish(running.fleet) == 8
    good_canary(running, canaries[1])
    assert exposed(running, rollout) == DEVICES
    keys = running.rows("SELECT device, epoch, seq FROM orders")
    assert len({tuple(row.values()) for row in keys}) == len(keys)
    assert len({row["seq"] for row in keys}) == len(keys)


def test_interrupted_transaction_reuses_no_sequence(running: House) -> None:
    """ROL-12: what was signed and not committed is signed anew under another sequence."""
    running.publish("1.1", 2)
    with contextlib.suppress(ZeroDivisionError), running.fleet.change() as change:
        create_rollout.create_in(running.fleet, change, Wanted("har", "1.1", "all", CANARY), "operator:test")
        raise ZeroDivisionError
    assert running.value("SELECT count(*) FROM rollouts") == 1
    assert len(exposed(running, start(running, "1.1"))) == 2


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (Wanted("har", "9.9", "all", ALL), UnknownError),
        (Wanted("har", "1.0", "nobody", ALL), UnknownError),
        (Wanted("har", "1.0", "all", {**ALL, "gates": {"luck": {}}}), GateError),
        (Wanted("har", "1.0", "all", {**ALL, "parameters": {"turbo": 1}}), ParameterRangeError),
        (Wanted("har", "1.0", "all", {**ALL, "parameters": {"shadow_disagreement_max": 7}}), ParameterRangeError),
        (Wanted("har", "1.0", "all", {"phases": []}), InvalidRequestError),
    ],
)
def test_refused_before_anything_is_stored(running: House, wanted: Wanted, error: type[Exception]) -> None:
    """ROL-7 and ROL-13: nothing of a refused rollout is stored."""
    before = running.value("SELECT count(*) FROM rollouts")
    with pytest.raises(error):
        create_rollout.create(running.fleet, wanted, "operator:test")
    assert running.value("SELECT count(*) FROM rollouts") == before


def test_below_the_floor(running: House) -> None:
    """ROL-13: a release that was declared unsafe is not ordered."""
    running.publish("1.1", 2)
    ceremony.set_floor(running.home.path, running.offline, "har", 2)
    with pytest.raises(BelowFloorError):
        start(running, "1.0", ALL)


def test_what_a_revoked_pipeline_signed_is_not_rolled_out(running: House, tmp_path: Path) -> None:
    """ROL-20: a release whose pipeline lost the model since then is refused by name, and nothing is stored."""
    running.publish("1.1", 2)
    key = ceremony.make_pipeline_key(tmp_path / "new" / "har.pem")
    ceremony.delegate(running.home.path, running.offline, "har", key)
    before = running.value("SELECT count(*) FROM rollouts")
    with pytest.raises(WithdrawnError):
        start(running, "1.1", ALL)
    assert running.value("SELECT count(*) FROM rollouts") == before


def test_empty_group(house: House) -> None:
    """ROL-15: nobody is there."""
    house.publish("1.0", 1)
    with pytest.raises(InvalidRequestError, match="no enrolled device"):
        start(house, "1.0", ALL)


def test_newcomer_joins(running: House) -> None:
    """ROL-15: a device that enrols while the rollout is open takes part in it."""
    running.publish("1.1", 2)
    rollout = start(running, "1.1", ALL)
    running.enrol("watch-9")
    rollouts.tick(running.fleet)
    assert "watch-9" in exposed(running, rollout)


def test_other_hardware_has_no_artifact(running: House) -> None:
    """ROL-15: a device of another profile ends as `no_artifact` and is never exposed."""
    running.enrol("board-1", profile="jetson-orin-nano")
    running.publish("1.1", 2)
    rollout = start(running, "1.1", ALL)
    assert "board-1" not in exposed(running, rollout)
    assert running.value("SELECT state FROM executions WHERE device = 'board-1'") == "no_artifact"


def test_silent_device_times_out(running: House) -> None:
    """ROL-8: an execution without an end ends by time, and the rollout with it."""
    running.publish("1.1", 2)
    rollout = start(running, "1.1", {**ALL, "execution_timeout_s": 60})
    for device in DEVICES[1:]:
        running.succeed(device)
    running.clock.pass_s(61)
    rollouts.tick(running.fleet)
    assert (
        running.value("SELECT state FROM executions WHERE rollout = ? AND device = 'watch-1'", rollout) == "timed_out"
    )
    assert state(running, rollout) == "completed"


def test_nothing_moves_without_a_reason(running: House) -> None:
    """ROL-2: ticks of a waiting rollout write nothing."""
    running.publish("1.1", 2)
    start(running, "1.1")
    sent = len(running.broker.sent)
    for _ in range(3):
        rollouts.tick(running.fleet)
    assert len(running.broker.sent) == sent
    with running.fleet.look() as connection:
        assert len(stored.lively(connection)) == 1


@pytest.mark.parametrize(
    "attest", [{}, {"digest": "sha256:" + "0" * 64, "answered": 5}, {"digest": "right", "answered": 0}]
)
def test_success_needs_proof(running: House, attest: dict[str, object]) -> None:
    """ROL-17 and ROL-18: a claim without the attestation is kept as an event and changes nothing."""
    artifact = running.publish("1.1", 2)
    rollout = start(running, "1.1", ALL)
    proof = {**attest, "digest": artifact} if attest.get("digest") == "right" else attest
    running.report("watch-1", "succeeded", attest=proof)
    assert running.value("SELECT state FROM executions WHERE rollout = ? AND device = 'watch-1'", rollout) == "notified"
    last = running.rows("SELECT state, applied FROM execution_events ORDER BY id DESC LIMIT 1")[0]
    assert last == {"state": "succeeded", "applied": 0}


def test_late_report_changes_nothing(running: House) -> None:
    """ROL-16: a report that was overtaken is kept and not applied."""
    running.publish("1.1", 2)
    rollout = start(running, "1.1", ALL)
    running.report("watch-1", "validating")
    running.report("watch-1", "downloading")
    assert (
        running.value("SELECT state FROM executions WHERE rollout = ? AND device = 'watch-1'", rollout) == "validating"
    )


def test_why_is_a_sentence(running: House) -> None:
    """ROL-14: the rollout says what it waits for."""
    running.publish("1.1", 2)
    rollout = start(running, "1.1")
    why = running.value("SELECT why FROM rollouts WHERE id = ?", rollout)
    assert why.startswith("phase canary: 2 of 2 devices exposed, 0 ended;")
    assert "waiting for 2 more" in why
