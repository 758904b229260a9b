"""Preprocessing inside an ONNX graph, beside the protocol's executor: docs/spec/preprocess.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from outrider_compiler import normalise
from outrider_compiler.candidate import Candidate
from outrider_compiler.candidates import floats, int8
from outrider_compiler.candidates.calibrate import ranges
from outrider_compiler.data import DataSet
from outrider_compiler.engines import load
from outrider_compiler.errors import UnsupportedModelError
from outrider_compiler.preprocess import baked
from outrider_profiles import Load
from outrider_profiles import load as load_profile
from outrider_protocol.manifest import TensorSpec
from outrider_protocol.prepare import apply
from outrider_protocol.preprocess import Layout, Normalise, Preprocess, Resize, Scale, Step, Window
from tests.protocol.documents import preprocesses, raw_samples

IMAGE = TensorSpec("x", "uint8", (-1, 6, 9, 3))
SERIES = TensorSpec("x", "int16", (-1, 20, 4))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS: dict[str, tuple[TensorSpec, tuple[Step, ...]]] = {
    "window": (SERIES, (Window(7),)),
    "resize up": (IMAGE, (Resize(13, 31),)),
    "resize down": (IMAGE, (Resize(4, 5),)),
    "nearest": (IMAGE, (Resize(13, 5, "nearest"),)),
    "layout": (SERIES, (Layout("NTC", "NCT"),)),
    "scale": (IMAGE, (Scale(1 / 255),)),
    "scale and offset": (SERIES, (Scale(1 / 127.5, -1.0),)),
    "normalise": (SERIES, (Normalise((12.5,), (3.25,)),)),
    "normalise channels": (IMAGE, (Normalise(MEAN, STD, 3),)),
    "image": (IMAGE, (Window(5), Resize(8, 8), Layout("NHWC", "NCHW"), Scale(1 / 255), Normalise(MEAN, STD, 1))),
    "series": (SERIES, (Window(16), Layout("NTC", "NCT"), Scale(0.01), Normalise((1.0, 2.0, 3.0, 4.0), (2.0,), 1))),
}  # fmt: skip


def identity(shape: tuple[int, ...], opset: int = 18, ir_version: int = 9) -> onnx.ModelProto:
    """x [n, …] float32 → y, the same."""
    dims = ["n", *shape[1:]]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"], name="same")],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, dims)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def answers(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """What ONNX Runtime says, after the checker has passed the graph with all its shapes."""
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def agree(document: Preprocess, got: np.ndarray, x: np.ndarray) -> None:
    """The same bits; with a linear resize as close as two orders of float32 additions are."""
    expected = apply(document, x)
    resize = document.step(Resize)
    if resize is None or resize.mode == "nearest":
        assert np.array_equal(got, expected)
        return
    normalise_step, scale = document.step(Normalise), document.step(Scale)
    size = float(np.abs(x.astype(np.float64)).max()) * abs(scale.factor if scale else 1.0)
    size = (size + abs(scale.offset if scale else 0.0)) / (min(normalise_step.std) if normalise_step else 1.0)
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=max(size, 1e-30) * 2e-6)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("opset", [8, 11, 13, 18, 22])
def test_each_step_in_the_graph_is_the_executor_s(name: str, opset: int) -> None:
    """PRE-BAK-1, PRE-BAK-2: every step and their combinations, from old opsets to new ones; the input's name stays."""
    document = Preprocess(*STEPS[name])
    model = baked.bake(identity(document.prepared, opset, ir_version=3 if opset < 9 else 9), document)
    x = raw_samples(document, 3)
    agree(document, answers(model, x), x)
    assert baked.inputs_of(model) == (document.raw,)
    assert normalise.opset_of(model) == max(opset, baked.OPSET)


@settings(deadline=None, max_examples=80)
@given(preprocesses(), st.integers(1, 3))
def test_any_document_in_the_graph_is_the_executor_s(document: Preprocess, n: int) -> None:
    """PRE-BAK-1: any combination of steps over any raw type, also after the compiler's simplification."""
    x = raw_samples(document, n, seed=n)
    model = baked.bake(identity(document.prepared), document)
    agree(document, answers(model, x), x)
    agree(document, answers(normalise.simplify(model), x), x)


def test_baking_changes_a_copy() -> None:
    """PRE-BAK-2: the model as it came is untouched."""
    document = Preprocess(*STEPS["image"])
    model = identity(document.prepared)
    before = model.SerializeToString()
    baked.bake(model, document)
    assert model.SerializeToString() == before


def test_readers_inside_branches_get_the_prepared_input() -> None:
    """PRE-BAK-1: a subgraph that reads the input reads what was prepared; names that the graph uses are not taken."""
    document = Preprocess(TensorSpec("x", "uint8", (-1, 2)), (Scale(0.5),))
    branches = {
        name: helper.make_graph(
            [helper.make_node(kind, ["x", "one"], [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, ["n", 2])],
        )
        for name, kind in (("then", "Add"), ("else", "Sub"))
    }
    nodes = [
        helper.make_node("Identity", ["yes"], ["outrider/mul"], name="outrider/cast"),
        helper.make_node("If", ["outrider/mul"], ["y"], then_branch=branches["then"], else_branch=branches["else"]),
    ]
    shape = ["n", 2]
    graph = helper.make_graph(
        nodes,
        "branches",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.float32(1), "one"), numpy_helper.from_array(np.array(True), "yes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    got = answers(baked.bake(model, document), np.array([[4, 6]], np.uint8))
    assert got.tolist() == [[3.0, 4.0]]


def test_an_opset_that_cannot_be_raised_is_refused() -> None:
    """PRE-BAK-3: where an old model cannot be converted up, the refusal names both opsets."""
    document = Preprocess(TensorSpec("x", "uint8", (-1, 2)), (Scale(0.5),))
    model = identity((-1, 2), opset=6, ir_version=3)
    model.graph.node[0].op_type = "Upsample"
    model.graph.node[0].attribute.append(helper.make_attribute("scales", [1.0, 1.0]))
    with pytest.raises(UnsupportedModelError, match="opset 6 cannot be converted to 13"):
        baked.bake(model, document)


@pytest.fixture(scope="module")
def convolution() -> onnx.ModelProto:
    """x [n, 3, 6, 9] → one convolution and its mean; with ranges from 0 to 255 in front of it."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.normal(size=(8, 3, 3, 3)).astype(np.float32), "w")]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["y"], name="flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    document = Preprocess(IMAGE, (Layout("NHWC", "NCHW"), Scale(1 / 255), Normalise(MEAN, STD, 1)))
    return normalise.simplify(baked.bake(model, document))


def float_chain(model: onnx.ModelProto) -> list[str]:
    """Operators from the raw input to the first that is not the preprocessing's, along the data."""
    chain, value = [], "x"
    while True:
        node = next(node for node in model.graph.node if value in node.input)
        if node.op_type not in ("Cast", "Transpose", "Mul", "Sub", "Div"):
            return [*chain, node.op_type]
        chain.append(node.op_type)
        value = node.output[0]


def test_preparation_is_never_quantized(convolution: onnx.ModelProto, tmp_path: Path) -> None:
    """PRE-BAK-4: int8 and fp16 begin after the preprocessing: nothing is rounded before the model's own first layer."""
    profile = load_profile("x86-64-vnni")
    model = normalise.convert(normalise.copied(convolution), profile)
    prepared = ["Cast", "Transpose", "Mul", "Sub", "Div"]
    x = np.random.default_rng(0).integers(0, 255, (40, 6, 9, 3), np.uint8, endpoint=True)
    found = ranges(normalise.copied(model), DataSet({"x": x}, None, ""), tmp_path, symmetric=False)
    built = int8.static(model, profile.int8, found)[0]
    assert isinstance(built, Candidate)
    assert float_chain(onnx.load_model_from_string(built.data)) == [*prepared, "QuantizeLinear"]
    half = floats.fp16(normalise.copied(model))
    assert isinstance(half, Candidate)
    source = load(Candidate("source", "fp32", "onnxruntime", model.SerializeToString()), Load()).run({"x": x})["y"]
    for candidate, least in ((built, 0.02), (half, 0.002)):
        runner = load(candidate, Load())
        assert runner.inputs[0] == replace(IMAGE, shape=(-1, 6, 9, 3))
        assert np.abs(runner.run({"x": x})["y"] - source).max() <= least * np.abs(source).max()
