"""Regression and anomaly: compiled, judged by their own figures, and run by the device's real worker."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from outrider_agent.client import Client
from outrider_compiler import GateError, build
from outrider_compiler.errors import DataError
from outrider_compiler.release import Release
from outrider_compiler.request import BuildRequest, Gate
from outrider_protocol import ids, manifest
from outrider_protocol.manifest import Config
from tests.agent.worker.kit import RunningWorker, Settings, body, listen, start_worker
from tests.compiler.conftest import Kit

ARCHITECTURE = """
import torch
from torch import nn

def make():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv1d(6, 16, 5, stride=2), nn.Linear(16, 4)

        def forward(self, x):
            embedding = torch.relu(self.conv(x.transpose(1, 2))).mean(2)
            return torch.softmax(20 * self.head(embedding - 0.8), 1), embedding
    torch.manual_seed(0)
    return Net()
"""
STEPS, CHANNELS, HIDDEN = 40, 4, 48
OUTPUT = {"regression": "value", "anomaly": "score"}


def windows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise whose level is the value: x [n, 40, 4], level [n]."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.5, 2.0, n)
    return (level[:, None, None] * rng.normal(size=(n, STEPS, CHANNELS))).astype(np.float32), level


def graph(head: np.ndarray, output: str) -> onnx.ModelProto:
    """Absolute values, a random hidden layer over their means, and the given linear head."""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(size=(CHANNELS, HIDDEN)), "b": rng.normal(size=HIDDEN),
        "head": head[:-1, None], "bias": head[-1:],
    }  # fmt: skip
    nodes = [
        helper.make_node("Abs", ["x"], ["size"]),
        helper.make_node("ReduceMean", ["size", "axes"], ["means"], keepdims=0),
        helper.make_node("Gemm", ["means", "w", "b"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "head", "bias"], [output]),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([1]), "axes"))
    shapes = {"x": ["n", STEPS, CHANNELS], output: ["n", 1], "embedding": ["n", HIDDEN]}
    infos = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    made = helper.make_graph(nodes, "g", [infos["x"]], [infos[output], infos["embedding"]], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def fitted(output: str) -> onnx.ModelProto:
    """The head by least squares: the model says the level of the noise."""
    x, level = windows(2000, seed=1)
    blank = ort.InferenceSession(
        graph(np.zeros(HIDDEN + 1), output).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rows = np.hstack([blank.run(["embedding"], {"x": x})[0], np.ones((len(x), 1))])
    return graph(np.linalg.solve(rows.T @ rows + np.eye(HIDDEN + 1), rows.T @ level), output)


def asked(folder: Path, task: str, **changes: object) -> BuildRequest:
    """A build of the net for one x86 profile; anomalies are loud windows."""
    onnx.save_model(fitted(OUTPUT[task]), folder / "net.onnx")
    calibration, (x, level) = windows(400, seed=2)[0], windows(500, seed=3)
    loud = np.arange(500) % 5 == 0
    if task == "anomaly":
        x = np.where(loud[:, None, None], x * 3 + np.sign(x), x).astype(np.float32)
    site = np.where(level > 1.25, "loud", "quiet")
    np.savez(folder / "calib.npz", x=calibration)
    y = loud.astype(np.int64) if task == "anomaly" else level
    np.savez(folder / "eval.npz", x=x, y=y, **{"slice:site": site})  # type: ignore[arg-type]  # numpy types the names as keyword flags
    values: dict[str, object] = {
        "source": str(folder / "net.onnx"), "name": "har", "version": "1.0", "counter": 1, "profiles": ("x86-64",),
        "calibration": folder / "calib.npz", "evaluation": folder / "eval.npz", "out": folder / "release", "task": task,
    }  # fmt: skip
    return BuildRequest(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["regression", "anomaly"])
def made(request: pytest.FixtureRequest) -> Iterator[tuple[str, Release]]:
    """A release of each task."""
    with tempfile.TemporaryDirectory(prefix="ort") as name:
        yield request.param, build(asked(Path(name), request.param))


def install(release: Release, directory: Path) -> Config:
    """Lay the artifact down as the device's update process does."""
    directory.mkdir(parents=True)
    data = release.manifest_bytes("x86-64")
    listed = manifest.Manifest.decode(data)
    (directory / "manifest.json").write_bytes(data)
    (directory / "config.json").write_bytes(release.blob(listed.config.digest))
    for layer in listed.device_layers():
        (directory / layer.title).write_bytes(release.blob(layer.digest))
    return release.config("x86-64")


def test_a_task_has_its_own_figures(made: tuple[str, Release]) -> None:
    """CMP-MET-7: what was judged, and the decision that travels with the artifact, are the task's."""
    task, release = made
    report, config = release.report(), release.config("x86-64")
    figures = {"regression": {"rmse", "mae", "r2"}, "anomaly": {"auc", "accuracy", "balanced_accuracy"}}[task]
    assert figures <= set(report["evaluation"]["metrics"])
    assert config.decision.task == task
    assert (config.probabilities, config.classes) == (
        {"regression": ("value", ("value",)), "anomaly": ("score", ("normal", "anomaly"))}[task]
    )
    assert config.decision.scale > 0
    chosen = report["profiles"]["x86-64"]
    assert chosen["chosen"] in {item["name"] for item in chosen["candidates"]}


@pytest.mark.timeout(180)
def test_the_device_runs_every_task(made: tuple[str, Release]) -> None:
    """AGT-TSK-1: the worker passes the golden vectors, answers values and records classes as the task defines them."""
    task, release = made
    with tempfile.TemporaryDirectory(prefix="orw") as name:
        home = Path(name)
        (home / "run").mkdir()
        Settings(records=50).write(home)
        config = install(release, home / "artifact")
        with listen(home / "run/har.sock") as listener:
            worker = start_worker(home, home / "artifact", listener)
            try:
                worker.wait_for("ready")
                worker.lease(1)
                worker.tell("serve")
                x, level = windows(50, seed=9)
                loud = np.concatenate([x[:25], x[25:] * 4])
                with Client(home / "run/har.sock", "har") as client:
                    outputs = client.infer({"x": loud if task == "anomaly" else x}).outputs
                _, _, columns = body(worker.wait_for("batch", kind="predictions"))
            finally:
                worker.end()
    value, klass = outputs[config.probabilities].reshape(-1), np.frombuffer(columns["klass"].data, "<i2")
    if task == "regression":
        assert np.abs(value - level).mean() < 0.2
        assert not klass.any()
    else:
        assert (klass == (value > config.decision.threshold)).all()
        assert klass[25:].mean() > 0.9


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 0, 0), (0.001, 0, 15), (1.0, 30, 30)])
def test_shadow_counts_values_that_differ(shift: float, least: int, most: int) -> None:
    """AGT-TSK-2: values are compared in steps of the tolerance: equal ones never differ, far ones always do."""
    with tempfile.TemporaryDirectory(prefix="orw") as name:
        home = Path(name)
        (home / "run").mkdir()
        Settings().write(home)
        install(build(asked(home, "regression")), home / "artifact")
        shifted(home / "artifact", home / "candidate", shift)
        with listen(home / "run/har.sock") as listener:
            serving = start_worker(home, home / "artifact", listener)
            judge = start_worker(home, home / "candidate", None, "shadow")
            try:
                assert least <= compared(home, serving, judge) <= most
            finally:
                serving.end()
                judge.end()


def shifted(source: Path, target: Path, shift: float) -> None:
    """The artifact with its values moved by `shift`: another model, without golden vectors that would say so."""
    target.mkdir()
    model, config = onnx.load_model(source / "model.onnx"), (source / "config.json").read_bytes()
    next(node for node in model.graph.node if "value" in node.output).output[0] = "unmoved"
    model.graph.initializer.append(numpy_helper.from_array(np.array([shift], np.float32), "shift"))
    model.graph.node.append(helper.make_node("Add", ["unmoved", "shift"], ["value"]))
    data = model.SerializeToString()
    layer = manifest.device_layer(manifest.Role.MODEL, "model.onnx", data)
    described = manifest.Descriptor(manifest.CONFIG_TYPE, ids.digest_of(config), len(config))
    (target / "manifest.json").write_bytes(manifest.Manifest(described, (layer,), {}).encode())
    (target / "config.json").write_bytes(config)
    (target / "model.onnx").write_bytes(data)


def compared(home: Path, serving: RunningWorker, judge: RunningWorker) -> int:
    """How many of 30 windows both answer differently."""
    for worker in (serving, judge):
        worker.wait_for("ready")
    serving.lease(1)
    serving.tell("serve")
    feed, read = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    serving.tell("shadow_on", {"n": 30}, (feed.fileno(),))
    judge.tell("shadow_on", {"n": 30}, (read.fileno(),))
    feed.close()
    read.close()
    with Client(home / "run/har.sock", "har") as client:
        client.metadata()
        for row in windows(30, seed=4)[0]:
            client.infer({"x": row[None]})
    return int(judge.wait_for("shadow", n=30).fields["disagree"])


def test_slices_of_the_evaluation_set_are_judged(tmp_path: Path) -> None:
    """CMP-SLI-3: a slice that was asked for has its figures in the report; one that is not there is refused."""
    made = build(asked(tmp_path, "regression", slices=("site",)))
    chosen = made.report()["profiles"]["x86-64"]["candidates"][0]
    assert [item["slice"] for item in chosen["slices"]] == ["site=loud", "site=quiet"]
    with pytest.raises(DataError, match="has no `slice:person`, only \\['site'\\]"):
        build(asked(tmp_path, "regression", out=tmp_path / "other", slices=("person",)))


def test_a_model_that_knows_nothing_is_refused(tmp_path: Path) -> None:
    """CMP-GAT-5: a regression whose R² is not shown to be above 0 is no release, whatever its signal-to-noise."""
    wanted = asked(tmp_path, "regression")
    with np.load(tmp_path / "eval.npz") as data:
        np.savez(tmp_path / "eval.npz", x=data["x"], y=np.random.default_rng(0).permutation(data["y"]))
    with pytest.raises(GateError, match=r"r2 -?[\d.]+ \(95 % interval from .* is not shown to be above 0\.0000"):
        build(wanted)
    assert not wanted.out.exists()


def test_robustness_is_reported(tmp_path: Path) -> None:
    """CMP-ROB-1: noise and missing channels for source and choice, and why no adversarial inputs were tried."""
    made = build(asked(tmp_path, "regression", robustness=True))
    found = made.report()["profiles"]["x86-64"]["robustness"]
    assert found["primary"] == "rmse"
    errors = [item["source"] for item in found["noise"]]
    assert errors[-1] > found["as_it_is"]["source"]
    assert len(found["missing_channel"]) == CHANNELS
    assert "gradient" in found["fgsm"]["reason"]
    assert json.dumps(found)


def test_adversarial_inputs_come_from_the_torch_module(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CMP-ROB-1: a step against the true class, by the module's own gradient, costs source and choice accuracy."""
    (tmp_path / "adversary_of_test.py").write_text(ARCHITECTURE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    request = kit.request(tmp_path / "out", source="adversary_of_test:make", profiles=("x86-64",), robustness=True)
    with np.load(kit.evaluation) as data:
        said = _answers(tmp_path, data["x"])
        np.savez(tmp_path / "eval.npz", x=data["x"], y=said)
    made = build(replace(request, evaluation=tmp_path / "eval.npz", gate=Gate(sqnr_min_db=10)))
    found = made.report()["profiles"]["x86-64"]["robustness"]
    assert found["as_it_is"]["source"] == 1.0
    assert found["fgsm"]["source"] < 1.0
    assert found["fgsm"]["epsilon"] > 0


def _answers(folder: Path, x: np.ndarray) -> np.ndarray:
    """The classes that the module itself says: the truth of this test."""
    code = (
        "import sys, numpy as np, torch, adversary_of_test as a\n"
        "x = np.load('x.npy'); y = a.make().eval()(torch.from_numpy(x))[0].argmax(1).numpy(); np.save('y.npy', y)"
    )
    np.save(folder / "x.npy", x)
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    return np.asarray(np.load(folder / "y.npy"))
