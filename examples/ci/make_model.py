"""A small model with its data, made in a second without torch: `python -m examples.ci.make_model FOLDER [--seed N]`.

Noisy sines whose frequency is the class; random convolutions, a mean over time, and a head that is fitted by least
squares. Another seed is another release of the same model: other convolutions, the same evaluation set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
CLASSES, CHANNELS, LENGTH, FEATURES = 4, 6, 96, 64
LAYERS = ((32, 7), (64, 5), (FEATURES, 3))
NOISE = 0.25


def waves(n: int, seed: int) -> tuple[Array, NDArray[np.int64]]:
    """`x` [n, LENGTH, CHANNELS] and the class `y` [n] of each."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n)
    time, phase = np.arange(LENGTH)[None, :, None], rng.uniform(0, 6.28, (n, 1, CHANNELS))
    x = np.sin(time * (0.15 + 0.2 * y[:, None, None]) + phase) + NOISE * rng.normal(size=(n, LENGTH, CHANNELS))
    return x.astype(np.float32), y


def net(head: Array, bias: Array, seed: int) -> onnx.ModelProto:
    """The graph: `x` to `probabilities` and `embedding`."""
    rng = np.random.default_rng(seed)
    tensors, before = {"axes": np.array([2]), "head": head, "bias": bias}, CHANNELS
    nodes = [helper.make_node("Transpose", ["x"], ["h0"], perm=[0, 2, 1])]
    for i, (after, kernel) in enumerate(LAYERS):
        tensors[f"w{i}"] = rng.normal(size=(after, before, kernel)) * np.sqrt(2 / (before * kernel))
        names = [f"h{i}", f"w{i}"]
        nodes.append(helper.make_node("Conv", names, [f"c{i}"], f"conv{i}", strides=[2], pads=[kernel // 2] * 2))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"h{i + 1}"]))
        before = after
    nodes += [
        helper.make_node("ReduceMean", [f"h{len(LAYERS)}", "axes"], ["embedding"], keepdims=0),
        helper.make_node("Gemm", ["embedding", "head", "bias"], ["logits"], "head"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    kept = [numpy_helper.from_array(v if n == "axes" else v.astype(np.float32), n) for n, v in tensors.items()]
    outputs = [_floats("probabilities", CLASSES), _floats("embedding", FEATURES)]
    graph = helper.make_graph(nodes, "waves", [_floats("x", LENGTH, CHANNELS)], outputs, kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _floats(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])


def fitted(seed: int) -> onnx.ModelProto:
    """The net with its head solved on training data."""
    x, y = waves(2000, seed=100 + seed)
    blank = net(np.zeros((FEATURES, CLASSES), np.float32), np.zeros(CLASSES, np.float32), seed)
    session = ort.InferenceSession(blank.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = np.hstack([session.run(["embedding"], {"x": x})[0], np.ones((len(x), 1))])
    solved = np.linalg.solve(rows.T @ rows + 0.1 * np.eye(FEATURES + 1), rows.T @ (8.0 * np.eye(CLASSES)[y]))
    return net(solved[:-1].astype(np.float32), solved[-1].astype(np.float32), seed)


def write(folder: Path, seed: int = 0) -> None:
    """`model.onnx`, `calibration.npz` and `evaluation.npz`; a slice says on which of two sites a sample was taken."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save_model(fitted(seed), folder / "model.onnx")
    np.savez(folder / "calibration.npz", x=waves(300, seed=1)[0])
    x, y = waves(1000, seed=2)
    sites = {"slice:site": np.where(np.arange(len(y)) % 3 == 0, "north", "south")}
    np.savez(folder / "evaluation.npz", x=x, y=y, **sites)  # type: ignore[arg-type]  # numpy types the names as flags


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    write(asked.folder, asked.seed)


if __name__ == "__main__":
    main()
