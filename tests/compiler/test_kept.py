"""Names, shapes, dtypes and the free batch of a source are those of what ships."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from outrider_compiler import BuildRequest, Release, build, data, importers
from outrider_compiler.candidate import Candidate
from outrider_compiler.candidates import litert
from outrider_compiler.engines import load
from outrider_compiler.quality import sqnr_db
from outrider_profiles import Load
from tests.compiler import graphs

ARCHITECTURE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, tokens, scale):
        embedding = self.table(tokens).mean(1) * scale
        return {"probabilities": torch.softmax(self.head(embedding), 1), "embedding": embedding}
"""


def request(folder: Path, source: str, profile: str, feeds: dict[str, np.ndarray], answers: np.ndarray) -> BuildRequest:
    """A build over `feeds`, the first third for calibration, judged by the model's own classes."""
    split = len(answers) // 3
    named = {f"x:{name}": value for name, value in feeds.items()}
    np.savez(folder / "calib.npz", **{name: value[:split] for name, value in named.items()})  # type: ignore[arg-type]  # keyword flags
    rest = {name: value[split:] for name, value in named.items()}
    np.savez(folder / "eval.npz", **rest, y=answers[split:].argmax(1))  # type: ignore[arg-type]  # as above
    return BuildRequest(
        source=source, name="net", version="1", counter=1, profiles=(profile,), calibration=folder / "calib.npz",
        evaluation=folder / "eval.npz", out=folder / "out",
    )  # fmt: skip


def tokens(count: int, kind: type) -> dict[str, np.ndarray]:
    """Integer tokens with a scale beside them."""
    rng = np.random.default_rng(4)
    return {
        "tokens": rng.integers(0, graphs.VOCABULARY, (count, graphs.TOKENS)).astype(kind),
        "scale": rng.uniform(1, 3, (count, 1)).astype(np.float32),
    }


def shipped(release: Release, profile: str) -> tuple[list[tuple[str, str, tuple[int, ...]]], list[str]]:
    """Inputs (name, dtype, shape) and names of the outputs of the artifact."""
    config = release.config(profile)
    return [(spec.name, spec.dtype, spec.shape) for spec in config.inputs], [spec.name for spec in config.outputs]


@pytest.mark.parametrize(("kind", "proto"), [(np.int32, TensorProto.INT32), (np.int64, TensorProto.INT64)])
def test_integer_tokens_stay_integers(tmp_path: Path, kind: type, proto: int) -> None:
    """CMP-SRC-14: an ONNX model of tokens ships with its names, dtypes and free batch, and its int8 forms are built."""
    model = graphs.embedding(proto)
    onnx.save_model(model, tmp_path / "net.onnx")
    feeds = tokens(300, kind)
    answers = load(Candidate("source", "fp32", "onnxruntime", model.SerializeToString()), Load()).run(feeds)
    made = build(request(tmp_path, str(tmp_path / "net.onnx"), "x86-64-vnni", feeds, answers["probabilities"]))
    inputs, outputs = shipped(made, "x86-64-vnni")
    assert inputs == [("tokens", kind.__name__, (-1, graphs.TOKENS)), ("scale", "float32", (-1, 1))]
    assert outputs == ["probabilities", "embedding"]
    profile = made.report()["profiles"]["x86-64-vnni"]
    assert {"fp32", "int8_static", "int8_dynamic"} <= {item["name"] for item in profile["candidates"]}, profile[
        "not_built"
    ]
    made.verify()


def test_weights_are_no_inputs(tmp_path: Path) -> None:
    """CMP-SRC-14: in a file of opset 8 every weight is an input too; what is imported takes `x` alone."""
    onnx.save_model(graphs.dense(8, 3), tmp_path / "net.onnx")
    np.savez(tmp_path / "calib.npz", x=np.ones((4, graphs.WIDTH), np.float32))
    imported = importers.load(str(tmp_path / "net.onnx"), None, data.load(tmp_path / "calib.npz"), tmp_path)
    assert [item.name for item in imported.model.graph.input] == ["x"]
    assert [item.name for item in imported.model.graph.output] == ["probabilities"]


def test_a_module_of_tokens_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMP-SRC-14: a torch module gets int32 tokens by name; float64 data become the weights' float32."""
    pytest.importorskip("torch")
    (tmp_path / "tokens_of_test.py").write_text(ARCHITECTURE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "tokens_of_test", raising=False)
    feeds = tokens(20, np.int32)
    feeds["scale"] = feeds["scale"].astype(np.float64)
    np.savez("calib.npz", **{f"x:{name}": value for name, value in feeds.items()})  # type: ignore[arg-type]  # keyword flags
    imported = importers.load("tokens_of_test:Net", None, data.load(Path("calib.npz")), tmp_path)
    runner = load(imported.candidate(), Load())
    assert [(spec.name, spec.dtype, spec.shape) for spec in runner.inputs] == [
        ("tokens", "int32", (-1, graphs.TOKENS)),
        ("scale", "float32", (-1, 1)),
    ]
    assert [spec.name for spec in runner.outputs] == ["probabilities", "embedding"]


def test_a_litert_file_ships_as_it_is(tmp_path: Path) -> None:
    """CMP-SRC-15: the file is the fp32 candidate byte for byte, under its signature's names; ONNX is not built."""
    pytest.importorskip("ai_edge_litert")
    source = graphs.tflite()
    (tmp_path / "net.tflite").write_bytes(source)
    x = np.random.default_rng(5).normal(size=(300, graphs.WIDTH)).astype(np.float32)
    answers = load(Candidate("source", "fp32", "litert", source), Load()).run({"x": x})
    asked = request(tmp_path, str(tmp_path / "net.tflite"), "raspberry-pi-5", {"x": x}, answers["probabilities"])
    made = build(BuildRequest(**{**vars(asked), "profiles": ("raspberry-pi-5", "x86-64")}))
    report = made.report()["profiles"]
    fp32 = next(item for item in report["raspberry-pi-5"]["candidates"] if item["name"] == "fp32")
    assert fp32["size_bytes"] == len(source)
    assert shipped(made, "raspberry-pi-5") == ([("x", "float32", (-1, graphs.WIDTH))], ["probabilities"])
    assert report["x86-64"]["status"] == "not_built"
    assert all("cannot become ONNX" in item["reason"] for item in report["x86-64"]["not_built"])
    assert json.loads((made.directory / "outrider.lock").read_bytes())["inputs"]["model"] == data.digest_of_file(
        tmp_path / "net.tflite"
    )


@pytest.mark.timeout(300)
def test_a_litert_file_is_quantized_too(tmp_path: Path) -> None:
    """CMP-SRC-15: where the extra is installed, a float file gets a static int8 form, close to it."""
    if litert.missing_packages():
        pytest.skip(f"not installed: {', '.join(litert.missing_packages())}")
    source, x = graphs.tflite(), np.random.default_rng(5).normal(size=(300, graphs.WIDTH)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", x=x)
    imported = importers.Imported(None, "tflite", "sha256:0", tflite=source)
    plain, int8 = litert.build(imported, data.load(tmp_path / "calib.npz"), ("fp32", "int8_static"), tmp_path)
    assert isinstance(plain, Candidate)
    assert plain.data == source
    assert isinstance(int8, Candidate), int8
    expected, got = (load(item, Load()).run({"x": x})["probabilities"] for item in (plain, int8))
    assert sqnr_db(expected, got) > 25
    again = importers.Imported(None, "tflite", "sha256:0", tflite=int8.data)
    (refused,) = litert.build(again, data.load(tmp_path / "calib.npz"), ("int8_static",), tmp_path)
    assert "quantized already" in str(vars(refused))
