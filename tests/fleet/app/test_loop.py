"""The closed loop: drift, labels, snapshots, runs, rollouts, clearing, lineage.

Rules: docs/spec/rollout.md, api.md, ingest.md.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from outrider_fleet.app import (
    clear_devices,
    close_loop,
    labels,
    lineage,
    policies,
    publish_release,
    rollouts,
    runs,
    snapshots,
)
from outrider_fleet.app.publish_release import Upload
from outrider_fleet.errors import (
    ConflictError,
    IllegalActionError,
    InvalidRequestError,
    ReleaseRefusedError,
    UnknownError,
)
from outrider_protocol.errors import MalformedError
from tests.database import rows
from tests.fleet.app.house import ALL, House

MOVED = [f"watch-{n}" for n in range(1, 5)]
OTHERS = [f"watch-{n}" for n in range(5, 9)]
POLICY: dict[str, Any] = {
    "autonomy": "automatic",
    "drift": {"min_share": 0.3, "min_devices": 4, "min_alarmed": 2, "cooldown_s": 3600, "min_labels": 4},
    "labelled_check": {"min_labels": 20, "min_accuracy": 0.7},
    "rollout": {"group": "all", **ALL},
}


def digest_of(house: House, version: str) -> str:
    return str(house.value("SELECT digest FROM artifacts WHERE version = ?", version))


def drifted_fleet(house: House, **changes: Any) -> str:
    """Four of eight devices in alarm, samples labelled; returns the artifact."""
    policies.set_policy(house.fleet, "har", {**POLICY, **changes}, "operator:test")
    digest = digest_of(house, "1.0")
    for device in OTHERS:
        house.state(device, digest=digest, version="1.0", phase="watching")
    for device in MOVED:
        house.alarm(device, digest)
        predicted = house.predict(device, digest, [0, 1, 2, 0])
        house.sample(device, digest, predicted)
        use = "train" if device in MOVED[:2] else "check"
        given = [
            {"prediction_id": p, "label": "run", "source": f"{device}/rec-{i % 2}", "use": use}
            for i, p in enumerate(predicted)
        ]
        labels.add(house.fleet, "har", given, "operator:people")
    return digest


def finished(house: House) -> dict[str, Any]:
    """Train: claim, publish and finish the waiting run."""
    row = runs.claim(house.fleet, ["har"], "runner:r1")
    assert row is not None
    inputs = ["p01/rec-1", "p02/rec-4"]
    house.publish(row["version"], row["counter"], {"run": row["id"], "snapshot": row["snapshot"], "inputs": inputs})
    outcome = {"state": "succeeded", "figures": {"accuracy": 0.9}, "inputs": inputs}
    return runs.finish(house.fleet, row["id"], row["fence"], outcome, "runner:r1")


def test_whole_loop(running: House) -> None:
    """DRP-1, RUN-1 to RUN-5: drift starts a run, its release is rolled out, without a person."""
    drifted_fleet(running)
    close_loop.step(running.fleet)
    run = running.rows("SELECT * FROM runs")[0]
    assert (run["state"], run["requested_by"], run["version"], run["counter"]) == ("queued", "policy", "1.1", 2)
    assert json.loads(run["reason"])["devices"] == MOVED
    assert json.loads(run["reason"])["estimated_harm"] == pytest.approx(0.45)
    close_loop.step(running.fleet)
    assert running.value("SELECT count(*) FROM runs") == 1
    finished(running)
    close_loop.step(running.fleet)
    rollout = running.rows("SELECT id, state, version, run, created_by FROM rollouts ORDER BY id DESC")[0]
    assert rollout == {
        "id": "ro-000002",
        "state": "running",
        "version": "1.1",
        "run": "run-000001",
        "created_by": "policy",
    }
    assert running.value("SELECT rollout FROM runs") == "ro-000002"
    close_loop.step(running.fleet)
    assert running.value("SELECT count(*) FROM rollouts") == 2


@pytest.mark.parametrize(
    ("autonomy", "run_state", "rollout_state"),
    [("propose", "proposed", "proposed"), ("approve", "queued", "proposed"), ("automatic", "queued", "running")],
)
def test_autonomy(running: House, autonomy: str, run_state: str, rollout_state: str) -> None:
    """DRP-5 and RUN-3: what waits for a person, by level."""
    drifted_fleet(running, autonomy=autonomy)
    close_loop.step(running.fleet)
    assert running.value("SELECT state FROM runs") == run_state
    if run_state == "proposed":
        assert runs.claim(running.fleet, None, "runner:r1") is None
        runs.approve(running.fleet, "run-000001", "operator:test")
        with pytest.raises(IllegalActionError):
            runs.approve(running.fleet, "run-000001", "operator:test")
    finished(running)
    close_loop.step(running.fleet)
    assert running.value("SELECT state FROM rollouts WHERE run IS NOT NULL") == rollout_state
    ordered = running.value("SELECT count(*) FROM orders WHERE version = '1.1'")
    assert (ordered > 0) == (rollout_state == "running")


def test_lone_device(running: House) -> None:
    """DRP-4: one maintenance event, however often one looks."""
    policies.set_policy(running.fleet, "har", POLICY, "operator:test")
    digest = digest_of(running, "1.0")
    for device in (*MOVED, *OTHERS):
        running.state(device, digest=digest, version="1.0", phase="watching")
    running.alarm("watch-1", digest)
    close_loop.step(running.fleet)
    close_loop.step(running.fleet)
    assert running.rows("SELECT device, model FROM maintenance_events") == [{"device": "watch-1", "model": "har"}]
    assert running.value("SELECT count(*) FROM runs") == 0


def test_no_policy_no_run(running: House) -> None:
    """DRP-5: a model without a policy does nothing alone."""
    drifted_fleet(running)
    with running.fleet.change() as change:
        change.connection.exec_driver_sql("DELETE FROM policies")
    close_loop.step(running.fleet)
    assert running.value("SELECT count(*) FROM runs") == 0


def test_cooldown(running: House) -> None:
    """DRP-3: after a run the fleet waits, then may run again."""
    drifted_fleet(running)
    close_loop.step(running.fleet)
    row = runs.claim(running.fleet, None, "runner:r1")
    assert row is not None
    runs.finish(running.fleet, row["id"], row["fence"], {"state": "failed", "error": "no luck"}, "runner:r1")
    close_loop.step(running.fleet)
    assert running.value("SELECT count(*) FROM runs") == 1
    running.clock.pass_s(3601)
    close_loop.step(running.fleet)
    assert running.value("SELECT count(*) FROM runs") == 2


def test_snapshot_holds_training_labels_only(running: House) -> None:
    """RUN-4: check labels never enter; the file opens with sqlite3 alone, and its digest is its name."""
    drifted_fleet(running)
    row = snapshots.create(running.fleet, "har", "operator:test")
    path = snapshots.file_of(running.fleet, row["digest"])
    found = rows(path, "SELECT prediction_id, label, klass, source, dtype, shape, length(x) FROM samples")
    assert len(found) == 8
    assert {source.split("/")[0] for _, _, _, source, *_ in found} == set(MOVED[:2])
    assert {tuple(item[1:3]) + tuple(item[4:]) for item in found} == {("run", 2, "f4", "[2, 2]", 16)}
    assert row["sources"] == sorted({source for _, _, _, source, *_ in found})
    assert snapshots.create(running.fleet, "har", "operator:test")["digest"] == row["digest"]
    assert running.value("SELECT count(*) FROM snapshots") == 1


def test_nothing_to_freeze(running: House) -> None:
    """RUN-4: without labels there is no snapshot, and no run."""
    with pytest.raises(ConflictError):
        snapshots.create(running.fleet, "har", "operator:test")
    with pytest.raises(UnknownError):
        runs.create(running.fleet, "unheard", {}, "operator:test")


@pytest.mark.parametrize(
    "label",
    [
        {"prediction_id": "nonsense", "label": "run", "source": "p/1"},
        {"prediction_id": "watch-1/00112233aabbccdd/1/0", "label": "swim", "source": "p/1"},
        {"prediction_id": "watch-1/00112233aabbccdd/1/0", "label": 3, "source": "p/1"},
        {"prediction_id": "watch-1/00112233aabbccdd/1/0", "label": True, "source": "p/1"},
        {"prediction_id": "watch-1/00112233aabbccdd/1/0", "label": "run", "source": ""},
        {"prediction_id": "watch-1/00112233aabbccdd/1/0", "label": "run", "source": "p/1", "use": "test"},
        {"prediction_id": "watch-1/00112233aabbccdd/1/0", "label": "run"},
        {"prediction_id": "watch-1/00112233aabbccdd/1/0", "label": "run", "source": "p/1", "mood": 1},
    ],
)
def test_refused_labels(running: House, label: dict[str, Any]) -> None:
    """RUN-4: labels are taken as a whole or not at all."""
    good = {"prediction_id": "watch-1/00112233aabbccdd/1/1", "label": 0, "source": "p/1"}
    with pytest.raises((InvalidRequestError, MalformedError)):
        labels.add(running.fleet, "har", [good, label], "operator:test")
    assert running.value("SELECT count(*) FROM labels") == 0


def test_claims_and_fences(running: House) -> None:
    """RUN-1: one runner at a time; a stale claim is taken over and its holder refused."""
    drifted_fleet(running)
    close_loop.step(running.fleet)
    first = runs.claim(running.fleet, ["other"], "runner:r1")
    assert first is None
    first = runs.claim(running.fleet, ["har"], "runner:r1")
    assert first is not None
    assert runs.claim(running.fleet, None, "runner:r2") is None
    runs.progress(running.fleet, first["id"], first["fence"], "half", 0.5, "runner:r1")
    running.clock.pass_s(3601)
    second = runs.claim(running.fleet, None, "runner:r2")
    assert second is not None
    assert second["fence"] == first["fence"] + 1
    with pytest.raises(ConflictError):
        runs.progress(running.fleet, first["id"], first["fence"], "more", 0.6, "runner:r1")
    with pytest.raises(ConflictError):
        runs.finish(running.fleet, first["id"], first["fence"], {"state": "failed"}, "runner:r1")
    with pytest.raises(UnknownError):
        runs.progress(running.fleet, "run-000009", 1, "", None, "runner:r1")


def test_success_needs_the_release(running: House) -> None:
    """RUN-2: without its published release a run has not succeeded."""
    drifted_fleet(running)
    close_loop.step(running.fleet)
    row = runs.claim(running.fleet, None, "runner:r1")
    assert row is not None
    with pytest.raises(ConflictError, match="not published"):
        runs.finish(running.fleet, row["id"], row["fence"], {"state": "succeeded"}, "runner:r1")


def test_release_of_a_run(running: House) -> None:
    """REL-3 and REL-5: the reserved counter is for the run alone, and the snapshot must be its own."""
    drifted_fleet(running)
    close_loop.step(running.fleet)
    row = runs.claim(running.fleet, None, "runner:r1")
    assert row is not None
    with pytest.raises(ReleaseRefusedError, match="reserved"):
        running.publish("1.1-bad", row["counter"])
    running.publish("1.1-bad", row["counter"] + 1)
    with pytest.raises(ReleaseRefusedError, match="was given"):
        running.publish(row["version"], row["counter"], {"run": row["id"], "snapshot": "sha256:" + "0" * 64})
    running.publish(row["version"], row["counter"], {"run": row["id"], "snapshot": row["snapshot"]})
    assert running.value("SELECT run FROM releases WHERE version = '1.1'") == row["id"]


def upload_of(house: House, row: dict[str, Any]) -> Upload:
    """The release of a run, as its runner would publish it."""
    made = house.make(row["version"], row["counter"])
    house.upload(made)
    return Upload(made.metadata.decode(), made.index.decode(), {"run": row["id"], "snapshot": row["snapshot"]})


def test_another_runner_releases_nothing_for_a_run(running: House) -> None:
    """RUN-6: what a run makes is published by the runner that claimed it, and by nobody else."""
    drifted_fleet(running)
    close_loop.step(running.fleet)
    row = runs.claim(running.fleet, None, "runner:r1")
    assert row is not None
    with pytest.raises(ReleaseRefusedError, match="claimed by runner:r1"):
        publish_release.publish(running.fleet, upload_of(running, row), "runner:r2")


def test_a_run_that_nobody_works_on_releases_nothing(running: House) -> None:
    """REL-5: a run that has ended makes no release any more, whatever its runner still holds."""
    drifted_fleet(running)
    close_loop.step(running.fleet)
    row = runs.claim(running.fleet, None, "runner:r1")
    assert row is not None
    runs.finish(running.fleet, row["id"], row["fence"], {"state": "failed", "error": "no memory"}, "runner:r1")
    with pytest.raises(ReleaseRefusedError, match="not at work"):
        publish_release.publish(running.fleet, upload_of(running, row), "runner:r1")


def rebaselining(house: House) -> str:
    """Everybody runs 1.1 and says `rebaselining`; the moved four had drifted. Returns the artifact."""
    drifted_fleet(house)
    close_loop.step(house.fleet)
    finished(house)
    close_loop.step(house.fleet)
    for device in (*MOVED, *OTHERS):
        house.succeed(device, phase="rebaselining")
    return digest_of(house, "1.1")


def test_labelled_check_alone_clears_the_drifted(running: House) -> None:
    """CLR-1, CLR-2 and CLR-4: right answers under the current artifact clear; the acks say it until it is heard."""
    digest = rebaselining(running)
    drifted = {row["device"] for row in running.rows("SELECT device FROM drift_status WHERE drifted = 1")}
    assert drifted == set(MOVED)
    for device in (*MOVED, *OTHERS):
        running.predict(device, digest, [2] * 40)
    clear_devices.step(running.fleet)
    cleared = {row["device"]: row["cleared_by"] for row in running.rows("SELECT device, cleared_by FROM drift_status")}
    assert cleared == {**dict.fromkeys(OTHERS, "group_test"), **dict.fromkeys(MOVED)}
    predicted = running.predict("watch-1", digest, [2] * 30)
    given = [{"prediction_id": p, "label": "run", "source": "watch-1/rec-9", "use": "check"} for p in predicted]
    labels.add(running.fleet, "har", given, "operator:people")
    assert clear_devices.step(running.fleet) == 1
    row = running.rows("SELECT cleared_by, cleared_digest, drifted FROM drift_status WHERE device = 'watch-1'")[0]
    assert row == {"cleared_by": "labelled_check", "cleared_digest": digest, "drifted": 0}
    assert running.broker.acks("watch-1")[-1].cleared == digest
    running.predict("watch-1", digest, [2])
    assert running.broker.acks("watch-1")[-1].cleared == digest
    running.state("watch-1", digest=digest, version="1.1", phase="watching")
    running.predict("watch-1", digest, [2])
    assert running.broker.acks("watch-1")[-1].cleared is None


def test_wrong_answers_clear_nobody(running: House) -> None:
    """CLR-2: labels that the predictions miss, and labels of another artifact's predictions, do not count."""
    digest = rebaselining(running)
    old = running.predict("watch-1", digest_of(running, "1.0"), [2] * 40)
    wrong = running.predict("watch-1", digest, [0] * 40)
    given = [{"prediction_id": p, "label": "run", "source": "watch-1/rec-9", "use": "check"} for p in (*old, *wrong)]
    labels.add(running.fleet, "har", given, "operator:people")
    assert clear_devices.step(running.fleet) == 0


def test_alarm_after_clearing(running: House) -> None:
    """CLR-1: a new alarm takes the clearing back; a late one of the former artifact does not."""
    digest = rebaselining(running)
    predicted = running.predict("watch-1", digest, [2] * 30)
    given = [{"prediction_id": p, "label": "run", "source": "watch-1/rec-9", "use": "check"} for p in predicted]
    labels.add(running.fleet, "har", given, "operator:people")
    clear_devices.step(running.fleet)
    from outrider_protocol.messages import DriftReport

    late = DriftReport("har", digest_of(running, "1.0"), "alarm", 200, 115, 31.0, None)
    running.event("watch-1", "drift", late.body())
    assert running.value("SELECT drifted FROM drift_status WHERE device = 'watch-1'") == 0
    running.alarm("watch-1", digest)
    row = running.rows("SELECT drifted, cleared_by FROM drift_status WHERE device = 'watch-1'")[0]
    assert row == {"drifted": 1, "cleared_by": None}


def flat(nodes: list[dict[str, Any]], branch: str) -> set[tuple[str, str]]:
    found = {(node["kind"], node["id"]) for node in nodes}
    return found.union(*(flat(node.get(branch, []), branch) for node in nodes))


def test_lineage_both_ways(running: House) -> None:
    """LIN-1 and LIN-2: from a prediction of 1.1 to every recording, and back from a recording to the rollout."""
    digest = rebaselining(running)
    prediction = running.predict("watch-6", digest, [1])[0]
    back = flat(lineage.trace(running.fleet, "prediction", prediction)["parents"], "parents")
    snapshot = running.value("SELECT digest FROM snapshots")
    pseudonym = running.value("SELECT pseudonym FROM devices WHERE device = 'watch-6'")
    wanted = {
        ("device", pseudonym),
        ("release", "har/1.1"),
        ("run", "run-000001"),
        ("snapshot", snapshot),
        ("release", "har/1.0"),
        ("recording", "watch-1/rec-0"),
        ("recording", "watch-2/rec-1"),
        ("recording", "p01/rec-1"),
    }
    assert wanted <= back
    assert not any(kind == "recording" and name.startswith(tuple(MOVED[2:])) for kind, name in back)
    for recording in ("watch-1/rec-0", "p02/rec-4"):
        forth = flat(lineage.trace(running.fleet, "recording", recording)["children"], "children")
        assert {("run", "run-000001"), ("release", "har/1.1"), ("rollout", "ro-000002")} <= forth
    used = running.value("SELECT prediction_id FROM snapshot_rows LIMIT 1")
    assert ("snapshot", snapshot) in flat(lineage.trace(running.fleet, "prediction", used)["children"], "children")


def test_lineage_is_append_only(running: House) -> None:
    """LIN-3: an edge that exists stays as it was."""
    from outrider_fleet.app.lineage_edges import edge

    with running.fleet.change() as change:
        edge(change, ("run", "r"), ("recording", "x"))
    first = running.value("SELECT at_ms FROM lineage WHERE child_id = 'r'")
    running.clock.pass_s(5)
    with running.fleet.change() as change:
        edge(change, ("run", "r"), ("recording", "x"))
    assert running.value("SELECT at_ms FROM lineage WHERE child_id = 'r'") == first


@pytest.mark.parametrize(("kind", "name"), [("release", "har/9.9"), ("recording", "nobody/0"), ("mood", "x")])
def test_lineage_of_nothing(running: House, kind: str, name: str) -> None:
    """LIN-1: what is not known is an error."""
    with pytest.raises((UnknownError, InvalidRequestError)):
        lineage.trace(running.fleet, kind, name)


def test_refused_rollout_of_a_run(running: House) -> None:
    """RUN-3: a template that cannot be used is said once with the run; nothing half-made is left."""
    drifted_fleet(running, rollout={"group": "nobody", **ALL})
    close_loop.step(running.fleet)
    finished(running)
    orders = running.value("SELECT count(*) FROM orders")
    close_loop.step(running.fleet)
    close_loop.step(running.fleet)
    assert "nobody" in json.loads(running.value("SELECT result FROM runs"))["rollout_error"]
    assert running.value("SELECT count(*) FROM rollouts") == 1
    assert running.value("SELECT count(*) FROM orders") == orders


def test_tick_is_quiet(running: House) -> None:
    """CLR-4: looking costs nothing where nothing is due."""
    before = running.value("SELECT count(*) FROM audit")
    clear_devices.step(running.fleet)
    rollouts.tick(running.fleet)
    assert running.value("SELECT count(*) FROM audit") == before
