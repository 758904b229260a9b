"""Whole builds of models that take raw input, run with the agent's own worker code: docs/spec/preprocess.md."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from outrider_agent.worker import golden
from outrider_agent.worker.artifact import Artifact, read_artifact
from outrider_agent.worker.engine import Loaded, PreparingEngine
from outrider_agent.worker.engine import load as load_on_device
from outrider_agent.worker.errors import GoldenMismatchError
from outrider_compiler import BuildRequest, build, reference
from outrider_compiler.candidate import Candidate
from outrider_compiler.candidates import litert
from outrider_compiler.engines import load
from outrider_compiler.errors import LockError
from outrider_compiler.preprocess import options
from outrider_compiler.release import Release
from outrider_profiles import Load
from outrider_protocol.manifest import Manifest, Role, TensorSpec
from outrider_protocol.preprocess import Layout, Normalise, Preprocess, Scale
from outrider_protocol.statistics import ReferenceStatistics
from tests.compiler.conftest import Kit

ARCHITECTURE = '''
"""Which of three colours shines: a net over normalised NCHW images, its head fitted when it is made."""

import numpy as np
import torch
from torch import nn

MEAN, STD = (0.4, 0.45, 0.5), (0.2, 0.25, 0.3)

def images(n, seed):
    """Raw photographs: uint8 [n, 16, 12, 3], and which channel is bright."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    light = 60 + 90 * np.eye(3)[y][:, None, None, :]
    return np.clip(light + rng.normal(0, 30, (n, 16, 12, 3)), 0, 255).astype(np.uint8), y

class Net(nn.Module):
    output_names = ("probabilities", "embedding")

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Linear(16, 3)

    def forward(self, x):
        embedding = torch.relu(self.conv(x)).mean((2, 3))
        return torch.softmax(self.head(embedding), 1), embedding

def make():
    net, (raw, y) = Net(), images(400, 9)
    x = (raw.transpose(0, 3, 1, 2) / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    with torch.no_grad():
        features = net(torch.from_numpy(x.astype(np.float32)))[1].numpy()
    rows = np.hstack([features, np.ones((len(features), 1))])
    solved = np.linalg.lstsq(rows, 12.0 * np.eye(3)[y], rcond=None)[0].astype(np.float32)
    with torch.no_grad():
        net.head.weight.copy_(torch.from_numpy(solved[:-1].T.copy()))
        net.head.bias.copy_(torch.from_numpy(solved[-1]))
    return net
'''
WORDS = {"normalise": "0.4:0.45:0.5,0.2:0.25:0.3", "scale": "1/255", "layout": "NHWC:NCHW"}
RAW = TensorSpec("x", "uint8", (-1, 16, 12, 3))
STEPS = (Layout("NHWC", "NCHW"), Scale(1 / 255), Normalise((0.4, 0.45, 0.5), (0.2, 0.25, 0.3), 1))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> BuildRequest:
    """A torch source and its raw data on disk."""
    folder = tmp_path_factory.mktemp("colours")
    (folder / "colours_of_test.py").write_text(ARCHITECTURE, encoding="utf-8")
    names: dict[str, object] = {}
    exec(ARCHITECTURE, names)
    images = names["images"]
    assert callable(images)
    np.savez(folder / "calib.npz", x=images(200, 1)[0])
    x, y = images(300, 2)
    np.savez(folder / "eval.npz", x=x, y=y)
    return BuildRequest(
        source="colours_of_test:make", name="colours", version="1.0", counter=1, profiles=("x86-64",),
        calibration=folder / "calib.npz", evaluation=folder / "eval.npz", out=folder / "out",
        preprocess=options.read(**WORDS),
    )  # fmt: skip


def built(request: BuildRequest) -> Release:
    """A build with the source's folder as the current one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.calibration.parent)
        return build(request)


@pytest.fixture(scope="module")
def release(colours: BuildRequest) -> Release:
    """Both forms of one model: baked for x86-64, and for LiteRT, where that is installed, with a layer."""
    profiles = ("x86-64",) if litert.missing_packages() else ("x86-64", "raspberry-pi-5")
    return built(replace(colours, profiles=profiles))


def installed(release: Release, profile: str, folder: Path) -> tuple[Artifact, Loaded]:
    """An artifact as the update process lays it down, read and loaded by the agent's worker."""
    data = release.manifest_bytes(profile)
    manifest = Manifest.decode(data)
    folder.mkdir()
    (folder / "manifest.json").write_bytes(data)
    (folder / "config.json").write_bytes(release.blob(manifest.config.digest))
    for layer in manifest.device_layers():
        (folder / layer.title).write_bytes(release.blob(layer.digest))
    artifact = read_artifact(folder)
    return artifact, load_on_device(artifact)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("profile", ["x86-64", "raspberry-pi-5"])
def test_artifacts_speak_raw_on_a_device(release: Release, tmp_path: Path, profile: str) -> None:
    """PRE-BAK-5, PRE-LAY-2: baked or with a layer, an artifact takes raw input, and its golden vectors prove it."""
    skip_without(release, profile)
    artifact, loaded = installed(release, profile, tmp_path / profile)
    layered = profile == "raspberry-pi-5"
    assert artifact.config.inputs == (RAW,)
    assert artifact.preprocess == (Preprocess(RAW, STEPS) if layered else None)
    assert isinstance(loaded.engine, PreparingEngine) is layered
    assert artifact.golden is not None
    assert artifact.golden.inputs["x"].dtype == "u1"
    assert golden.check(artifact, loaded.engine).vectors == reference.GOLDEN_ROWS
    assert statistics_are_raw(artifact.statistics)
    figures = release.report()["profiles"][profile]["candidates"]
    assert min(item["accuracy"] for item in figures if item["verdict"] == "chosen") > 0.9


def skip_without(release: Release, profile: str) -> None:
    if profile != "x86-64" and litert.missing_packages():
        pytest.skip(f"the extra `litert` is not installed: {', '.join(litert.missing_packages())}")
    assert profile in release.profiles, release.report()["profiles"][profile]["reason"]


def statistics_are_raw(statistics: ReferenceStatistics | None) -> bool:
    """Means of raw bytes per channel lie between 50 and 160; prepared ones would lie around zero."""
    assert statistics is not None
    bins = {item.name: item.edges for item in statistics.bins}
    return all(50 < edge < 160 for channel in range(3) for edge in bins[f"channel.{channel}.mean"])


@pytest.mark.timeout(300)
def test_both_forms_answer_alike(colours: BuildRequest, release: Release, tmp_path: Path) -> None:
    """PRE-BAK-5, PRE-LAY-2: the same raw photographs through the agent's worker code: the same answers."""
    skip_without(release, "raspberry-pi-5")
    with np.load(colours.evaluation) as data:
        x = data["x"][:40]
    baked, plain = installed(release, "x86-64", tmp_path / "baked")
    layered, lite = installed(release, "raspberry-pi-5", tmp_path / "layered")
    assert baked.golden is not None
    assert layered.golden is not None
    expected, got = plain.engine.run({"x": x}), lite.engine.run({"x": x})
    for name in expected:
        within = [vectors.atol + vectors.rtol * np.abs(expected[name]) for vectors in (baked.golden, layered.golden)]
        assert (np.abs(got[name] - expected[name]) <= sum(within)).all(), name


@pytest.mark.timeout(300)
def test_litert_is_calibrated_and_measured_on_prepared_samples(release: Release) -> None:
    """PRE-LAY-1: static int8 of LiteRT keeps its signal, so its ranges are those of prepared samples."""
    skip_without(release, "raspberry-pi-5")
    figures = {item["name"]: item for item in release.report()["profiles"]["raspberry-pi-5"]["candidates"]}
    assert min(figures["fp32"]["sqnr_db"].values()) > 80
    assert min(figures["int8_static"]["sqnr_db"].values()) > 25
    assert min(item["accuracy"] for item in figures.values()) > 0.9


def test_the_device_notices_another_preparation(colours: BuildRequest, release: Release, tmp_path: Path) -> None:
    """PRE-BAK-5: golden vectors of raw input fail where the device's graph prepares it otherwise."""
    wrong = options.read(**{**WORDS, "scale": "1/240"})
    other = built(replace(colours, out=tmp_path / "other", preprocess=wrong))
    artifact, _ = installed(release, "x86-64", tmp_path / "a")
    _, swapped = installed(other, "x86-64", tmp_path / "b")
    with pytest.raises(GoldenMismatchError):
        golden.check(artifact, swapped.engine)


def test_the_lock_holds_the_preprocessing(kit: Kit, tmp_path: Path) -> None:
    """PRE-OPT-4: locked, the same words give the same bytes and others are refused; provenance and BOM name them."""
    with np.load(kit.calibration) as data:
        np.savez(tmp_path / "calib.npz", x=sensor(data["x"]))
    with np.load(kit.evaluation) as data:
        np.savez(tmp_path / "eval.npz", x=sensor(data["x"]), y=data["y"])
    asked = options.read(window=100, scale="1/1000")
    request = kit.request(
        tmp_path / "out", profiles=("x86-64-vnni",), preprocess=asked, embedding="embedding",
        calibration=tmp_path / "calib.npz", evaluation=tmp_path / "eval.npz",
    )  # fmt: skip
    first = build(request)
    locked = replace(request, out=tmp_path / "again", locked=first.directory / "outrider.lock")
    again = build(locked)
    assert again.index == first.index
    for other in (options.read(window=100, scale="1/999"), options.read(window=100)):
        with pytest.raises(LockError, match="request 'preprocess'"):
            build(replace(locked, out=tmp_path / "never", preprocess=other))
    config = first.config("x86-64-vnni")
    assert config.inputs == (TensorSpec("x", "int16", (-1, 110, 6)),)
    assert not [item for item in layers(first) if item.role is Role.PREPROCESS]
    words = {"window": 100, "scale": [0.001, 0.0]}
    documents = {d.annotations["org.opencontainers.image.title"]: first.layer_of(d) for d in first.index.referrers}
    provenance = json.loads(documents["provenance.json"])
    assert provenance["predicate"]["buildDefinition"]["externalParameters"]["preprocess"] == words
    properties = json.loads(documents["bom.json"])["metadata"]["component"]["properties"]
    assert {item["name"]: item["value"] for item in properties}["outrider:preprocess"] == json.dumps(
        words, sort_keys=True, separators=(",", ":")
    )
    with np.load(kit.evaluation) as data:
        plain = load(Candidate("plain", "fp32", "onnxruntime", kit.model.read_bytes()), Load()).run({"x": data["x"]})
        accuracy = float((plain["probabilities"].argmax(axis=1) == data["y"]).mean())
    figures = {item["name"]: item for item in first.report()["profiles"]["x86-64-vnni"]["candidates"]}
    assert figures["fp32"]["accuracy"] == pytest.approx(accuracy, abs=0.01)
    assert min(figures["int8_static"]["sqnr_db"].values()) > 20


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_fixed_batch_stays_fixed(kit: Kit, tmp_path: Path, batch: int) -> None:
    """PRE-BAK-2, CMP-STA-4: a model that takes some samples at once takes as many raw ones, golden vectors too."""
    model = onnx.load_model(kit.model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save_model(model, tmp_path / "fixed.onnx")
    request = kit.request(
        tmp_path / "out", source=str(tmp_path / "fixed.onnx"), profiles=("x86-64-vnni",),
        preprocess=options.read(scale="1.0", normalise="0,1"), embedding="embedding",
    )  # fmt: skip
    release = build(request)
    artifact, loaded = installed(release, "x86-64-vnni", tmp_path / "a")
    assert artifact.config.inputs == (TensorSpec("x", "float32", (batch, 100, 6)),)
    assert golden.check(artifact, loaded.engine).vectors == batch


def layers(release: Release) -> tuple[object, ...]:
    return Manifest.decode(release.manifest_bytes("x86-64-vnni")).device_layers()


def sensor(x: np.ndarray) -> np.ndarray:
    """Waves as a sensor gives them: thousandths as int16, with ten steps before them that do not count."""
    early = np.full((len(x), 10, x.shape[2]), 30_000, np.int16)
    return np.concatenate([early, np.round(x * 1000).astype(np.int16)], axis=1)
