"""An artifact with a preprocess layer, on a real worker: docs/spec/preprocess.md."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outrider_agent.client import Client
from outrider_agent.drift import scores
from outrider_agent.worker.artifact import read_artifact
from outrider_agent.worker.engine import OnnxEngine, PreparingEngine, load
from outrider_agent.worker.errors import InferenceError, RefusedError
from outrider_protocol import canonical
from outrider_protocol.manifest import TensorSpec
from outrider_protocol.preprocess import Preprocess, Scale
from tests.agent.worker.kit import (
    RAW,
    RunningWorker,
    Settings,
    Spec,
    body,
    onnx_model,
    raw_windows,
    run_raw,
    windows,
    write_artifact,
)

PREPARED = Spec(preprocess=RAW)
Workers = Callable[..., RunningWorker]


def probe(directory: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "outrider_agent.worker", "--artifact", str(directory), "--model", "har"]
    done = subprocess.run([*command, "--role", "probe"], check=False, capture_output=True, timeout=60)
    told: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) == told["ok"]
    return told


def test_golden_vectors_of_raw_input_prove_the_layer(tmp_path: Path) -> None:
    """PRE-DEV-2: golden vectors hold raw input, and pass through the layer."""
    write_artifact(tmp_path / "a", PREPARED)
    told = probe(tmp_path / "a")
    assert told["ok"], told
    assert told["checked"] == 8


def test_a_layer_that_prepares_otherwise_fails_the_golden_vectors(tmp_path: Path) -> None:
    """PRE-DEV-2: one number of the layer differs from the build's: the golden check finds it."""
    other = Preprocess(RAW.raw, (RAW.steps[0], Scale(1 / 990), RAW.steps[2]))
    write_artifact(tmp_path / "a", replace(PREPARED, layer=other.encode()))
    assert probe(tmp_path / "a")["error"] == "GoldenMismatchError"


def with_steps(*steps: dict[str, Any]) -> bytes:
    return canonical.encode({**canonical.decode(RAW.encode(), 10**6), "steps": list(steps)})


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (b"not JSON", "not JSON"),
        (with_steps(), "each once"),
        (with_steps({"step": "window", "length": 99}), "99 steps"),
        (with_steps({"step": "blur"}), "blur"),
        (Preprocess(TensorSpec("x", "int8", (-1, 25, 4)), RAW.steps).encode(), "int8"),
        (Preprocess(TensorSpec("x", "int16", (-1, 24, 4)), RAW.steps).encode(), "24"),
        (Preprocess(TensorSpec("z", "int16", (-1, 25, 4)), RAW.steps).encode(), "'z'"),
    ],
    ids=["text", "no step", "no fit", "unknown step", "dtype", "shape", "name"],
)
def test_a_wrong_layer_is_refused_by_name(tmp_path: Path, layer: bytes, said: str) -> None:
    """PRE-DEV-1: a layer that cannot be read, or is not for the input that the config promises, is a named error."""
    write_artifact(tmp_path / "a", replace(PREPARED, layer=layer))
    told = probe(tmp_path / "a")
    assert told["error"] == "PreprocessError"
    assert said in told["message"]
    assert "pdate" in told["hint"] or "speaks another protocol" in told["hint"]


def test_a_changed_layer_is_not_loaded(tmp_path: Path) -> None:
    """PRE-DEV-1: the layer's digest is the manifest's."""
    write_artifact(tmp_path / "a", PREPARED)
    path = tmp_path / "a" / "preprocess.json"
    path.write_bytes(path.read_bytes().replace(b"0.001", b"0.002"))
    assert probe(tmp_path / "a")["error"] == "ModelFileError"


def test_applications_speak_raw(workers: Workers, address: Path) -> None:
    """PRE-DEV-2: metadata, requests and answers are about the raw input; what the model takes is nobody's business."""
    workers(PREPARED)
    x = raw_windows(5)
    with Client(address) as client:
        assert client.metadata()["inputs"] == [{"name": "x", "datatype": "INT16", "shape": [-1, 25, 4]}]
        answered = client.infer({"x": x}).outputs
        with pytest.raises(RefusedError, match="TensorError"):
            client.infer({"x": windows(5)})
    probabilities, embedding = run_raw(onnx_model(), x, RAW)
    assert np.array_equal(answered["probabilities"], probabilities)
    assert np.array_equal(answered["embedding"], embedding)


def test_statistics_and_samples_are_raw(workers: Workers, home: Path, address: Path) -> None:
    """PRE-DEV-3: drift statistics count raw channels over the artifact's bins, and samples hold raw values."""
    Settings(samples=True).write(home)
    worker = workers(PREPARED)
    x = raw_windows(40, seed=9)
    with Client(address) as client:
        named = client.infer({"x": x}).prediction_ids
    worker.tell("flush")
    _, meta, columns = body(worker.wait_for("batch", kind="windows"))
    statistics = read_artifact(next((home / "artifacts").iterdir())).statistics
    assert statistics is not None
    place = meta["variables"].index("channel.0.mean")
    sizes = meta["bins"]
    counts = np.frombuffer(columns["counts"].data, "<u4")[sum(sizes[:place]) : sum(sizes[: place + 1])]
    edges, means = statistics.bins[place].edges, scores.channel_statistics(x)[:, 0]
    assert counts.tolist() == np.bincount(np.searchsorted(edges, means, side="right"), minlength=32).tolist()
    _, meta, columns = body(worker.wait_for("batch", kind="samples"))
    rows = [named.index(name) for name in meta["prediction_ids"]]
    assert (meta["dtype"], meta["shape"]) == ("i2", [25, 4])
    assert np.array_equal(np.frombuffer(columns["x"].data, "<i2").reshape(-1, 25, 4), x[rows])


@pytest.mark.parametrize("candidate", [replace(PREPARED, seed=5, version="1.1"), Spec(seed=5, version="1.1")])
def test_a_shadow_gets_raw_copies(workers: Workers, address: Path, candidate: Spec) -> None:
    """PRE-DEV-2: the candidate prepares raw copies by its own layer; one that takes other input differs everywhere."""
    serving, shadow = workers(PREPARED), workers(candidate, role="shadow", serving=False)
    shadow.wait_for("ready")
    feed, read = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    serving.tell("shadow_on", {"n": 12}, (feed.fileno(),))
    shadow.tell("shadow_on", {"n": 12}, (read.fileno(),))
    feed.close()
    read.close()
    x = raw_windows(12)
    with Client(address) as client:
        client.metadata()
        for row in x:
            client.infer({"x": row[None]})
    told = shadow.wait_for("shadow", n=12).fields
    mine, theirs = (run_raw(onnx_model(seed), x, RAW)[0].argmax(1) for seed in (0, 5))
    assert told["disagree"] == (int((mine != theirs).sum()) if candidate.preprocess else 12)


def test_an_input_that_cannot_be_prepared_is_an_inference_error(tmp_path: Path) -> None:
    """PRE-DEV-2: what the layer cannot take is the request's failure, not the worker's."""
    write_artifact(tmp_path / "a", PREPARED)
    engine = load(read_artifact(tmp_path / "a")).engine
    assert isinstance(engine, PreparingEngine)
    for feeds in ({}, {"x": windows(2)}, {"x": raw_windows(2)[:, :24]}):
        with pytest.raises(InferenceError, match="input 'x'"):
            engine.run(feeds)


def test_without_a_layer_nothing_stands_before_the_engine(tmp_path: Path) -> None:
    """PRE-DEV-4: an artifact without a layer runs on the engine itself."""
    write_artifact(tmp_path / "a")
    assert type(load(read_artifact(tmp_path / "a")).engine) is OnnxEngine
