"""A small convolutional net over synthetic waves, made without torch, with real accuracy to lose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from outrider_compiler.release import Release
from outrider_compiler.request import BuildRequest

CLASSES, CHANNELS, LENGTH, EMBEDDING = 4, 6, 100, 64
LAYERS = ((32, 5), (64, 5), (EMBEDDING, 3))


@dataclass(frozen=True)
class Kit:
    """Files of one model with its data."""

    folder: Path
    model: Path
    calibration: Path
    evaluation: Path

    def request(self, out: Path, **changes: object) -> BuildRequest:
        """A build of the net for two x86 profiles."""
        values: dict[str, object] = {
            "source": str(self.model),
            "name": "waves",
            "version": "1.0",
            "counter": 1,
            "profiles": ("x86-64-vnni", "x86-64"),
            "calibration": self.calibration,
            "evaluation": self.evaluation,
            "out": out,
        }
        return BuildRequest(**{**values, **changes})  # type: ignore[arg-type]


def waves(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy sines whose frequency is the class: x [n, 100, 6] float32, y [n]."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n)
    time = np.arange(LENGTH)[None, :, None]
    phase, scale = rng.uniform(0, 6.28, (n, 1, CHANNELS)), rng.uniform(0.7, 1.3, (n, 1, CHANNELS))
    x = scale * np.sin(time * (0.1 + 0.15 * y[:, None, None]) + phase) + 0.35 * rng.normal(size=(n, LENGTH, CHANNELS))
    return (3.0 * x + 1.0).astype(np.float32), y


def graph(head: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """Random convolutions, a mean over time, and the given linear head; with the traces that exporters leave."""
    rng = np.random.default_rng(0)
    weights = {"mean": np.full(CHANNELS, 1.0), "axes": np.array([2])}
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["h0"], perm=[0, 2, 1]),
    ]
    before = CHANNELS
    for i, (after, kernel) in enumerate(LAYERS):
        weights[f"conv{i}.weight"] = rng.normal(size=(after, before, kernel)) * np.sqrt(2 / (before * kernel))
        weights[f"conv{i}.bias"] = rng.normal(size=after) * 0.1
        names = [f"h{i}", f"conv{i}.weight", f"conv{i}.bias"]
        nodes.append(
            helper.make_node("Conv", names, [f"c{i}"], name=f"node_conv{i}", strides=[2], pads=[kernel // 2] * 2)
        )
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"h{i + 1}"]))
        before = after
    weights["head"], weights["head.bias"] = head, bias
    nodes += [
        helper.make_node("ReduceMean", [f"h{len(LAYERS)}", "axes"], ["embedding"], keepdims=0),
        helper.make_node("Gemm", ["embedding", "head", "head.bias"], ["logits"], name="node_head"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    nodes[2].doc_string = "File /secret/place/model.py, line 7"
    nodes[2].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File /secret/place/model.py, line 7")
    outputs = [_float("probabilities", ["batch", CLASSES]), _float("embedding", ["batch", EMBEDDING])]
    tensors = [
        numpy_helper.from_array(value if name == "axes" else value.astype(np.float32), name)
        for name, value in weights.items()
    ]
    made = helper.make_graph(nodes, "waves", [_float("x", ["batch", LENGTH, CHANNELS])], outputs, tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10, producer_name="someone")


def _float(name: str, shape: list[object]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def fitted() -> onnx.ModelProto:
    """The net with its head fitted by least squares on the embedding."""
    x, y = waves(1500, seed=1)
    blank = graph(np.zeros((EMBEDDING, CLASSES)), np.zeros(CLASSES))
    session = ort.InferenceSession(blank.SerializeToString(), providers=["CPUExecutionProvider"])
    features = session.run(["embedding"], {"x": x})[0]
    rows = np.hstack([features, np.ones((len(x), 1))])
    solved = np.linalg.solve(rows.T @ rows + 0.1 * np.eye(EMBEDDING + 1), rows.T @ (8.0 * np.eye(CLASSES)[y]))
    return graph(solved[:-1], solved[-1])


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Model and data on disk, the same for all tests."""
    folder = tmp_path_factory.mktemp("waves")
    onnx.save_model(fitted(), folder / "waves.onnx")
    calibration, (x, y) = waves(300, seed=2)[0], waves(1200, seed=3)
    np.savez(folder / "calib.npz", x=calibration)
    np.savez(folder / "eval.npz", x=x, y=y)
    return Kit(folder, folder / "waves.onnx", folder / "calib.npz", folder / "eval.npz")


@pytest.fixture(scope="session")
def release(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """One real build, read by many tests; nobody changes it."""
    from outrider_compiler import build

    return build(kit.request(tmp_path_factory.mktemp("release") / "out", embedding="embedding"))
