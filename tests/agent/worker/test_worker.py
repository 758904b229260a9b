"""The worker process, real: docs/spec/local-api.md."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from outrider_agent.client import Client
from outrider_agent.worker.errors import RefusedError, WorkerGoneError
from tests.agent.worker.kit import OUTBOX, Settings, Spec, body, onnx_model, run_model, windows, write_artifact


def probe(directory: Path, model: str = "har") -> tuple[int, dict]:
    command = [sys.executable, "-m", "outrider_agent.worker", "--artifact", str(directory), "--model", model]
    done = subprocess.run([*command, "--role", "probe"], check=False, capture_output=True, timeout=60)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("mode", ["default", "mmap"])
def test_probe_loads_checks_and_attests(tmp_path: Path, mode: str) -> None:
    """AGT-WRK-1, AGT-WRK-2: the probe attests the manifest's digest and the model file's SHA-256."""
    digest = write_artifact(tmp_path / "a", Spec(load_mode=mode))
    status, told = probe(tmp_path / "a")
    assert (status, told["ok"], told["digest"], told["checked"]) == (0, True, digest, 8)
    assert told["latency_us"] > 0
    assert len(told["model_sha256"]) == 64


def test_nothing_is_reported_to_anybody(tmp_path: Path) -> None:
    """AGT-WRK-10: a worker leaves the home folder empty, where ONNX Runtime would keep its device id."""
    write_artifact(tmp_path / "a", Spec())
    (home := tmp_path / "home").mkdir()
    kept = {
        name: value for name, value in os.environ.items() if name not in {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    }
    command = [sys.executable, "-m", "outrider_agent.worker", "--artifact", str(tmp_path / "a"), "--model", "har"]
    subprocess.run([*command, "--role", "probe"], check=True, capture_output=True, env={**kept, "HOME": str(home)})
    assert list(home.rglob("*")) == []


@pytest.mark.parametrize(
    "providers", [(), ("CPUExecutionProvider",), ("NoSuchExecutionProvider", "CPUExecutionProvider")]
)
def test_providers_are_tried_in_order(workers, address: Path, providers: tuple[str, ...]) -> None:
    """AGT-TSK-3: what is not installed is passed over, the CPU ends the list, and metadata tell what runs."""
    workers(Spec(providers=providers))
    with Client(address) as client:
        told = client.metadata()["parameters"]
    assert (told["providers"], told["task"]) == (["CPUExecutionProvider"], "classification")


def damage_model(directory: Path) -> None:
    data = bytearray((directory / "model.onnx").read_bytes())
    data[-1] ^= 1
    (directory / "model.onnx").write_bytes(data)


def second_name(directory: Path) -> None:
    (directory.parent / "other").hardlink_to(directory / "model.onnx")


def link(directory: Path) -> None:
    (directory / "model.onnx").rename(directory.parent / "elsewhere")
    (directory / "model.onnx").symlink_to(directory.parent / "elsewhere")


def damage_config(directory: Path) -> None:
    (directory / "config.json").write_bytes((directory / "config.json").read_bytes().replace(b"fp32", b"fp16"))


def no_manifest(directory: Path) -> None:
    (directory / "manifest.json").unlink()


@pytest.mark.parametrize("harm", [damage_model, second_name, link, damage_config, no_manifest])
@pytest.mark.parametrize("mode", ["default", "mmap"])
def test_a_changed_file_is_not_loaded(tmp_path: Path, harm, mode: str) -> None:
    """AGT-WRK-2: what is loaded is what the manifest lists, in a plain file with one name."""
    write_artifact(tmp_path / "a", Spec(load_mode=mode))
    harm(tmp_path / "a")
    status, told = probe(tmp_path / "a")
    assert (status, told["ok"], told["error"]) == (1, False, "ModelFileError")
    assert told["hint"]


@pytest.mark.parametrize(
    ("spec", "model", "error"),
    [
        (Spec(golden_offset=0.01), "har", "GoldenMismatchError"),
        (Spec(engine="tensorrt"), "har", "EngineError"),
        (Spec(engine="litert"), "har", "EngineError"),
        (Spec(), "other", "ArtifactError"),
    ],
)
def test_an_artifact_that_cannot_run_is_refused_by_name(tmp_path: Path, spec: Spec, model: str, error: str) -> None:
    """AGT-WRK-1: golden vectors, engine and model name are checked before anything is served."""
    write_artifact(tmp_path / "a", spec)
    status, told = probe(tmp_path / "a", model)
    assert (status, told["error"]) == (1, error)


def test_a_worker_that_cannot_load_says_failed(workers) -> None:
    """AGT-WRK-1: `failed` with class and hint instead of `ready`."""
    worker = workers(Spec(golden_offset=0.5), serving=False)
    assert worker.wait_for("failed").fields["error"] == "GoldenMismatchError"
    assert worker.process.wait(20) == 1


def test_answers_are_the_models_and_carry_ids(workers, address: Path) -> None:
    """AGT-OIP-1, AGT-WRK-4: each window's answer carries its prediction id; the leased batch holds the same rows."""
    worker = workers()
    x = windows(5)
    with Client(address) as client:
        single = client.infer({"x": x[:1]})
        several = client.infer({"x": x[1:]})
        digest = client.metadata()["parameters"]["digest"]
    expected, _ = run_model(onnx_model(), x)
    np.testing.assert_allclose(several.outputs["probabilities"], expected[1:], rtol=1e-5)
    assert single.prediction_ids == [f"dev-1/{OUTBOX}/1/0"]
    assert several.prediction_ids == [f"dev-1/{OUTBOX}/1/{n}" for n in range(1, 5)]
    assert single.digest == digest
    worker.tell("flush")
    batch = worker.wait_for("batch", kind="predictions")
    kind, meta, columns = body(batch)
    assert (batch.fields["seq"], batch.fields["n"], kind, meta["digest"]) == (1, 5, "predictions", digest)
    assert np.frombuffer(columns["klass"].data, "<i2").tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(np.frombuffer(columns["confidence"].data, "<f4"), expected.max(1), rtol=1e-5)
    statistics = body(worker.wait_for("batch", kind="windows"))
    assert (statistics[1]["n"], statistics[1]["evidence"]) == (5, 0.0)
    assert np.frombuffer(statistics[2]["counts"].data, "<u4").sum() == 5


def test_without_a_lease_the_answer_has_no_id(workers, address: Path) -> None:
    """AGT-WRK-5: a prediction without a lease is answered, its id is null, and it is counted."""
    worker = workers()
    with Client(address) as client:
        client.infer({"x": windows(1)})
        worker.tell("flush")
        worker.wait_for("batch", kind="predictions")
        assert client.infer({"x": windows(2)}).prediction_ids == [None, None]
        worker.lease(2)
        assert client.infer({"x": windows(1)}).prediction_ids == [f"dev-1/{OUTBOX}/2/0"]
    worker.tell("flush")
    assert body(worker.wait_for("batch", kind="predictions"))[1]["unleased"] == 2


def test_flush_of_an_empty_batch_gives_the_lease_back(workers) -> None:
    """AGT-WRK-4: `unused` names the sequence that will not be used."""
    worker = workers()
    worker.tell("flush")
    assert worker.wait_for("unused").fields["seq"] == 1


def test_full_batches_take_one_lease_each(workers, home: Path, address: Path) -> None:
    """AGT-WRK-4: no id is given twice over many leases, and each answered row is in one batch."""
    Settings(records=10).write(home)
    worker = workers()
    named: list[str | None] = []
    with Client(address) as client:
        for n in range(35):
            named += client.infer({"x": windows(1, seed=n)}).prediction_ids
            if n % 10 == 9:
                worker.wait_for("batch", kind="predictions", n=10)
                worker.lease(2 + n // 10)
                worker.wait_for("attest")
    assert len(set(named)) == 35
    assert [name.split("/")[2] for name in named if name][::10] == ["1", "2", "3", "4"]


def test_attestation_counts_real_answers(workers, address: Path) -> None:
    """AGT-WRK-3: digest, model SHA-256 and the number of windows answered, repeated when it changed."""
    worker = workers()
    assert worker.wait_for("attest").fields["answered"] == 0
    with Client(address) as client:
        client.infer({"x": windows(3)})
    told = worker.wait_for("attest", answered=3).fields
    assert told["digest"].startswith("sha256:")
    assert len(told["model_sha256"]) == 64


def test_swap_loses_no_request(workers, address: Path) -> None:
    """AGT-WRK-6: over a drain and a new worker on the same socket every request is answered, by old or new."""
    old, new = workers(), workers(Spec(seed=5, version="1.1"), serving=False)
    new.wait_for("ready")
    new.lease(50)
    digests: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        with Client(address) as client:
            while not stop.is_set():
                digests.append(client.infer({"x": windows(1)}).digest)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        old.wait_for("attest")
    new.tell("serve")
    old.tell("drain")
    old.wait_for("drained")
    for _ in range(2):
        new.wait_for("attest")
    stop.set()
    for thread in threads:
        thread.join(20)
    assert len(set(digests)) == 2
    assert digests[-1] != digests[0]
    attested = [m.fields["answered"] for m in old.got if m.op == "attest"]
    assert attested[-1] == digests.count(digests[0])


def test_a_held_worker_serves_again(workers, address: Path) -> None:
    """AGT-WRK-6: after `drained` the same process can be told to accept again (local rollback)."""
    worker = workers()
    with Client(address) as client:
        client.infer({"x": windows(1)})
        worker.tell("drain")
        worker.wait_for("drained")
        worker.lease(2)
        worker.tell("serve")
        assert client.infer({"x": windows(1)}).prediction_ids == [f"dev-1/{OUTBOX}/2/0"]


def test_kill_in_the_middle_of_a_request(workers, address: Path) -> None:
    """AGT-WRK-7: the client gets `WorkerGoneError`, and its next call is answered by the next worker."""
    slow = workers(Spec(slow_loops=12))
    client, failed = Client(address), []

    def ask() -> None:
        try:
            client.infer({"x": windows(1)})
        except WorkerGoneError as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    slow.wait_for("attest")
    threading.Event().wait(0.1)  # the request is with the engine, which takes longer
    slow.process.kill()
    thread.join(20)
    assert len(failed) == 1
    assert failed[0].hint
    slow.process.wait(20)
    workers()
    assert client.infer({"x": windows(1)}).digest
    client.close()


def test_the_worker_ends_with_its_supervisor(workers) -> None:
    """AGT-WRK-8: end of file on the channel ends the process."""
    worker = workers()
    worker.sock.shutdown(socket.SHUT_RDWR)
    assert worker.process.wait(20) == 0


def test_stop_hands_over_what_is_held(workers, address: Path) -> None:
    """AGT-WRK-8: `stop` flushes first and exits 0."""
    worker = workers()
    with Client(address) as client:
        client.infer({"x": windows(4)})
    assert worker.stop() == 0
    assert worker.wait_for("batch", kind="predictions").fields["n"] == 4


def test_samples_only_where_policy_says_so(workers, home: Path, address: Path) -> None:
    """AGT-SMP-1, AGT-SMP-4: off by default; on, they carry ids of their own batch and the raw values."""
    Settings(samples=True).write(home)
    worker = workers()
    x = windows(40)
    with Client(address) as client:
        named = client.infer({"x": x}).prediction_ids
    worker.tell("flush")
    kind, meta, columns = body(worker.wait_for("batch", kind="samples"))
    assert (kind, meta["n"], meta["shape"]) == ("samples", 8, [20, 4])
    assert set(meta["reason"]) == {"control", "uncertain"}
    rows = [named.index(name) for name in meta["prediction_ids"]]
    np.testing.assert_array_equal(np.frombuffer(columns["x"].data, "<f4").reshape(8, 20, 4), x[rows])


def test_no_samples_by_default(workers, address: Path) -> None:
    """AGT-SMP-1: raw inputs stay on the device unless agent.toml says otherwise."""
    worker = workers()
    with Client(address) as client:
        client.infer({"x": windows(40)})
    assert worker.stop() == 0
    worker.wait_for("batch", kind="predictions")
    worker.wait_for("batch", kind="windows")
    assert not [m for m in worker.got if m.op == "batch"]


def test_refusals_over_the_socket(workers, address: Path) -> None:
    """AGT-OIP-6: a refusal has its class and hint, and the connection goes on."""
    workers()
    with Client(address) as client:
        with pytest.raises(RefusedError) as caught:
            client.infer({"x": np.zeros((1, 3, 4), np.float32)})
        assert (caught.value.status, caught.value.name) == (400, "TensorError")
        assert caught.value.hint
        with pytest.raises(RefusedError, match="datatype"):
            client.infer({"x": np.zeros((1, 20, 4), np.float64)})
        assert client.infer({"x": windows(1)}).digest
        assert client.ready()
    with Client(address, model="other") as other, pytest.raises(RefusedError, match="UnknownModelError"):
        other.metadata()


def test_shadow_counts_disagreement(workers, address: Path) -> None:
    """AGT-SHD-1, AGT-SHD-2: the candidate sees the served inputs and counts where its class differs."""
    serving = workers()
    candidate = workers(Spec(seed=5, version="1.1"), role="shadow", serving=False)
    candidate.wait_for("ready")
    feed, read = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    serving.tell("shadow_on", {"n": 30}, (feed.fileno(),))
    candidate.tell("shadow_on", {"n": 30}, (read.fileno(),))
    feed.close()
    read.close()
    x = windows(30)
    with Client(address) as client:
        client.metadata()
        for row in x:
            client.infer({"x": row[None]})
    told = candidate.wait_for("shadow", n=30).fields
    mine, theirs = (run_model(onnx_model(seed), x)[0].argmax(1) for seed in (0, 5))
    assert (told["disagree"], told["dropped"]) == (int((mine != theirs).sum()), 0)


def test_drift_alarm_survives_a_restart(workers, home: Path, address: Path) -> None:
    """AGT-DRF-9, AGT-DRF-10, AGT-DRF-11: baseline, alarm, kept over a restart, cleared into a new baseline."""
    worker = workers()
    with Client(address) as client:
        client.infer({"x": windows(100, seed=11)})
        worker.wait_for("phase", phase="watching")
        assert worker.stop() == 0
        worker = workers()
        worker.wait_for("phase", phase="watching")
        client.infer({"x": windows(80, seed=12, shift=1.0)})
        worker.wait_for("phase", phase="alarm")
        event = worker.wait_for("event").fields
        assert (event["type"], event["body"]["baseline_n"]) == ("drift", 60)
        assert 100 <= event["body"]["window_index"] < 160
        worker.tell("flush")
        statistics = body(worker.wait_for("batch", kind="windows"))[1]
        assert statistics["phase"] == "alarm"
        assert statistics["evidence"] >= Spec().average_run_length
        assert client.metadata()["parameters"]["phase"] == "alarm"
        worker.tell("cleared", {"digest": client.metadata()["parameters"]["digest"]})
        worker.wait_for("phase", phase="baseline")
    assert worker.stop() == 0
    assert not [m for m in worker.got if m.op == "event"]


def test_a_former_release_means_rebaselining(workers, address: Path) -> None:
    """AGT-DRF-9: after another artifact of this model the phase is `rebaselining` until the check clears it.

    AGT-DRF-19: it says so once, in an event, and not again after a restart.
    """
    assert workers().stop() == 0
    worker = workers(Spec(seed=5, version="1.1"))
    worker.wait_for("phase", phase="rebaselining")
    assert worker.wait_for("event", type="drift").fields["body"]["phase"] == "rebaselining"
    assert worker.stop() == 0
    worker = workers(Spec(seed=5, version="1.1"))
    worker.wait_for("phase", phase="rebaselining")
    assert not [message for message in worker.got if message.op == "event"]
    with Client(address) as client:
        client.infer({"x": windows(100)})
        worker.tell("cleared", {"digest": "sha256:" + "0" * 64})
        worker.tell("cleared", {"digest": client.metadata()["parameters"]["digest"]})
        worker.wait_for("phase", phase="watching")


def test_a_damaged_state_file_is_set_aside(workers, home: Path) -> None:
    """AGT-DRF-12: named in an event, kept beside, and the phase says `rebaselining`."""
    assert workers().stop() == 0
    (state,) = (home / "var" / "drift").glob("*.json")
    state.write_bytes(state.read_bytes().replace(b"baseline", b"watching"))
    worker = workers()
    assert worker.wait_for("event", type="agent").fields["body"]["what"] == "drift_state_damaged"
    worker.wait_for("phase", phase="rebaselining")
    assert state.with_name(state.name + ".corrupt").exists()
