"""Nets with every pattern that the makers of candidates know, random but fixed, and a bench to build them on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates import Workshop
from outrider_compiler.candidates.mixed import Search
from outrider_compiler.data import DataSet, Feeds
from outrider_compiler.engines import load
from outrider_compiler.importers.imported import Imported
from outrider_compiler.quality import sqnr_db
from outrider_profiles import Load, Profile
from tests.compiler.graphs import array, model, value

TOKENS, WIDTH, HEADS = 16, 64, 4
SIDE, CHANNELS = 16, 16
CLASSES = 4


def transformer(blocks: int = 2) -> onnx.ModelProto:
    """x [batch, 16, 64] → attention and two dense layers with torch's form of GELU → probabilities, embedding."""
    rng = np.random.default_rng(1)
    weights = [array("half", np.float32(0.5)), array("one", np.float32(1)), array("root", np.float32(2**0.5))]
    nodes, at = [], "x"
    for block in range(blocks):
        made, at = _block(f"b{block}", at, weights, rng)
        nodes += made
    weights += [array("axes", np.array([1])), *_dense("head", WIDTH, CLASSES, rng)]
    nodes += [
        helper.make_node("ReduceMean", [at, "axes"], ["embedding"], keepdims=0),
        helper.make_node("Gemm", ["embedding", "head.w", "head.b"], ["logits"], name="head"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    outputs = [value("probabilities", ["batch", CLASSES]), value("embedding", ["batch", WIDTH])]
    return model(nodes, [value("x", ["batch", TOKENS, WIDTH])], outputs, weights)


def _dense(name: str, before: int, after: int, rng: np.random.Generator) -> list[onnx.TensorProto]:
    weight = rng.normal(size=(before, after)) / np.sqrt(before)
    return [
        array(f"{name}.w", weight.astype(np.float32)),
        array(f"{name}.b", (rng.normal(size=after) * 0.1).astype(np.float32)),
    ]


def _block(
    name: str, x: str, weights: list[onnx.TensorProto], rng: np.random.Generator
) -> tuple[list[onnx.NodeProto], str]:
    shapes = {"q": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH)}
    for part, (before, after) in shapes.items():
        weights += _dense(f"{name}.{part}", before, after, rng)
    weights += [
        array(f"{name}.g", rng.uniform(0.5, 1.5, WIDTH).astype(np.float32)),
        array(f"{name}.n", (rng.normal(size=WIDTH) * 0.1).astype(np.float32)),
    ]
    n = f"{name}."

    def dense(part: str, source: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("MatMul", [source, n + part + ".w"], [n + part + "m"], name=n + part),
            helper.make_node("Add", [n + part + "m", n + part + ".b"], [n + part + "o"], name=n + part + "bias"),
        ]

    nodes = [
        helper.make_node("LayerNormalization", [x, n + "g", n + "n"], [n + "norm"], name=n + "norm"),
        *dense("q", n + "norm"), *dense("v", n + "norm"),
        helper.make_node("Transpose", [n + "qo"], [n + "qt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", [n + "qo", n + "qt"], [n + "scores"], name=n + "scores"),
        helper.make_node("Softmax", [n + "scores"], [n + "soft"], axis=2),
        helper.make_node("MatMul", [n + "soft", n + "vo"], [n + "mixed"], name=n + "mixed"),
        helper.make_node("Add", [x, n + "mixed"], [n + "sum"]),
        *dense("up", n + "sum"),
        helper.make_node("Div", [n + "upo", "root"], [n + "scaled"]),
        helper.make_node("Erf", [n + "scaled"], [n + "erf"]),
        helper.make_node("Add", [n + "erf", "one"], [n + "plus"]),
        helper.make_node("Mul", ["half", n + "plus"], [n + "halved"]),
        helper.make_node("Mul", [n + "upo", n + "halved"], [n + "gelu"]),
        *dense("down", n + "gelu"),
        helper.make_node("Add", [n + "sum", n + "downo"], [n + "out"]),
    ]  # fmt: skip
    return nodes, n + "out"


def swishing() -> onnx.ModelProto:
    """x [batch, 3, 16, 16] → convolutions with HardSwish and one sum between them → probabilities, embedding."""
    rng = np.random.default_rng(2)
    weights: list[onnx.TensorProto] = [array("axes", np.array([2, 3]))]
    nodes, before, at = [], 3, "x"
    for i in range(6):
        weight = rng.normal(size=(CHANNELS, before, 3, 3)) * np.sqrt(2 / (9 * before))
        bias = (rng.normal(size=CHANNELS) * 0.2).astype(np.float32)
        weights += [array(f"c{i}.w", weight.astype(np.float32)), array(f"c{i}.b", bias)]
        nodes.append(helper.make_node("Conv", [at, f"c{i}.w", f"c{i}.b"], [f"c{i}"], name=f"conv{i}", pads=[1] * 4))
        nodes.append(helper.make_node("HardSwish", [f"c{i}"], [f"h{i}"], name=f"swish{i}"))
        before, at = CHANNELS, f"h{i}"
    weights += _dense("head", CHANNELS, CLASSES, rng)
    nodes += [
        helper.make_node("Add", ["h3", "h5"], ["sum"], name="sum"),
        helper.make_node("ReduceMean", ["sum", "axes"], ["embedding"], keepdims=0),
        helper.make_node("Gemm", ["embedding", "head.w", "head.b"], ["logits"], name="head"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    outputs = [value("probabilities", ["batch", CLASSES]), value("embedding", ["batch", CHANNELS])]
    return model(nodes, [value("x", ["batch", 3, SIDE, SIDE])], outputs, weights)


def spiky() -> onnx.ModelProto:
    """`swishing` with a convolution of which one channel is 200 times too large: 8 bits do not hold its result."""
    made = swishing()
    for tensor in made.graph.initializer:
        if tensor.name == "c1.w":
            weight = onnx.numpy_helper.to_array(tensor).copy()
            weight[0] *= 200
            tensor.CopyFrom(array("c1.w", weight))
        if tensor.name == "c2.w":
            weight = onnx.numpy_helper.to_array(tensor).copy()
            weight[:, 0] /= 400
            tensor.CopyFrom(array("c2.w", weight))
    return made


def samples(made: onnx.ModelProto, n: int = 96, seed: int = 0) -> DataSet:
    """Random inputs of the model's shape."""
    shape = [dimension.dim_value for dimension in made.graph.input[0].type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)
    return DataSet({made.graph.input[0].name: x}, None, "")


def workshop(made: onnx.ModelProto, folder: Path, search: Search | None = None) -> Workshop:
    """Where candidates of a model are built."""
    folder.mkdir(parents=True, exist_ok=True)
    imported = Imported(made, "onnx", "sha256:0")
    return Workshop(imported, imported.simplified, samples(made), folder, search)


def named(built: list[Candidate | NotBuilt]) -> dict[str, Candidate | NotBuilt]:
    """What was built, by name."""
    return {item.name: item for item in built}


def built(made: onnx.ModelProto, folder: Path, profile: Profile, precision: str) -> Candidate:
    """The candidate of the precision's own name."""
    found = named(workshop(made, folder).build(profile, precision))[precision]
    assert isinstance(found, Candidate), found
    return found


def decibels(made: onnx.ModelProto, candidate: Candidate, n: int = 64) -> dict[str, float]:
    """SQNR by output on samples that calibration has not seen."""
    feeds: Feeds = samples(made, n, seed=1).feeds
    expected = load(Candidate("source", "fp32", "onnxruntime", made.SerializeToString()), Load()).run(feeds)
    got = load(candidate, Load()).run(feeds)
    return {name: sqnr_db(expected[name], got[name]) for name in expected}


def kinds(candidate: Candidate) -> list[str]:
    """Operators of a candidate's file."""
    return [node.op_type for node in onnx.load_model_from_string(candidate.data).graph.node]
