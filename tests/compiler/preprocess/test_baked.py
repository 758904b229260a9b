"""Preprocessing inside an ONNX graph, beside the protocol's executor: docs/spec/preprocess.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from outrider_compiler import normalise, quality
from outrider_compiler.candidate import Candidate
from outrider_compiler.candidates import Workshop
from outrider_compiler.data import DataSet
from outrider_compiler.engines import load
from outrider_compiler.importers import Imported
from outrider_compiler.preprocess import baked
from outrider_profiles import Load
from outrider_profiles import load as load_profile
from outrider_protocol.manifest import TensorSpec
from outrider_protocol.prepare import apply
from outrider_protocol.preprocess import Layout, Normalise, Preprocess, Resize, Scale, Step, Window
from tests.protocol.documents import preprocesses, raw_samples

Change = Callable[[onnx.ModelProto], None] | None
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
@pytest.mark.parametrize("opset", [11, 13, 18, 22])
def test_each_step_in_the_graph_is_the_executor_s(name: str, opset: int) -> None:
    """PRE-BAK-1, PRE-BAK-2: every step and their combinations, in old opsets and new; the input's name stays."""
    document = Preprocess(*STEPS[name])
    model = identity(document.prepared, opset)
    baked.bake(model, document)
    x = raw_samples(document, 3)
    agree(document, answers(model, x), x)
    (raw,) = model.graph.input
    assert (raw.name, helper.tensor_dtype_to_np_dtype(raw.type.tensor_type.elem_type)) == ("x", x.dtype)
    assert [d.dim_param or d.dim_value for d in raw.type.tensor_type.shape.dim] == ["n", *x.shape[1:]]
    assert [node.op_type for node in model.graph.node].count("Cast") == 1


@settings(deadline=None, max_examples=80)
@given(preprocesses(), st.integers(1, 3))
def test_any_document_in_the_graph_is_the_executor_s(document: Preprocess, n: int) -> None:
    """PRE-BAK-1: any combination of steps over any raw type, in the bytes that ship."""
    x = raw_samples(document, n, seed=n)
    plain = Candidate("fp32", "fp32", "onnxruntime", identity(document.prepared).SerializeToString())
    made = baked.raw_form(plain, document, load_profile("x86-64"))
    assert made.preprocess is None
    agree(document, answers(onnx.load_model_from_string(made.data), x), x)


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
    baked.bake(model, document)
    assert answers(model, np.array([[4, 6]], np.uint8)).tolist() == [[3.0, 4.0]]


def old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 10


def old_version(model: onnx.ModelProto) -> None:
    model.ir_version = 3


@pytest.mark.parametrize(
    ("profile", "denied", "change"),
    [
        ("raspberry-pi-5", (), None),
        ("x86-64", ("Transpose",), None),
        ("x86-64", ("Cast", "Sub"), None),
        ("x86-64", (), old_opset),
        ("x86-64", (), old_version),
        ("integers", (), None),
    ],
    ids=["format", "transpose", "cast", "opset", "version", "integers"],
)
def test_what_cannot_be_baked_is_a_layer(profile: str, denied: tuple[str, ...], change: Change) -> None:
    """PRE-BAK-3: where format, version or profile forbid a node, the file stays as it is and carries the document."""
    document = Preprocess(*STEPS["image"])
    model = identity(document.prepared)
    if change:
        change(model)
    plain = Candidate("fp32", "fp32", "onnxruntime", model.SerializeToString())
    board = replace(load_profile("x86-64" if profile == "integers" else profile), deny_operators=denied)
    board = replace(board, int8=replace(board.int8, full=profile == "integers"))
    made = baked.raw_form(plain, document, board)
    assert made == replace(plain, preprocess=document.encode())
    x = raw_samples(document, 300)
    runner = load(made, Load())
    assert runner.inputs == (document.raw,)
    assert np.array_equal(runner.run({"x": x})["y"], apply(document, x))
    runner.once({"x": x[:1]})


def convolution() -> onnx.ModelProto:
    """x [n, 12, 6, 9] → one convolution and its mean."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.normal(size=(8, 12, 5, 5)).astype(np.float32), "w")]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["y"], name="flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 12, 6, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def first_operators(data: bytes) -> list[str]:
    """Operators from the raw input to the first that is not the preprocessing's, along the data."""
    model = onnx.load_model_from_string(data)
    chain, value = [], "x"
    while True:
        node = next(node for node in model.graph.node if value in node.input)
        to_half = node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT16
        if node.op_type not in ("Cast", "Transpose", "Mul", "Sub", "Div") or to_half:
            return [*chain, "to fp16" if to_half else node.op_type]
        chain.append(node.op_type)
        value = node.output[0]


@pytest.mark.parametrize(
    ("name", "then", "least_db"),
    [("fp32", "Conv", 100), ("fp16", "Conv", 55), ("int8_static", "QuantizeLinear", 30)],
)
def test_nothing_is_rounded_before_the_model_s_own_first_layer(
    tmp_path: Path, name: str, then: str, least_db: float
) -> None:
    """PRE-BAK-4: candidates are quantized behind the preprocessing, even where raw values do not fit their types."""
    raw = TensorSpec("x", "int32", (-1, 6, 9, 12))
    document = Preprocess(raw, (Layout("NHWC", "NCHW"), Scale(1e-5), Normalise((0.5,) * 12, (0.25,) * 12, 1)))
    x = np.random.default_rng(0).integers(-100_000, 200_000, (40, 6, 9, 12)).astype(np.int32)
    model = convolution()
    samples = DataSet({"x": apply(document, x)}, None, "")
    workshop = Workshop(Imported(model, "onnx", ""), normalise.simplify(model), samples, tmp_path)
    profile = load_profile("x86-64-vnni")
    plain = next(item for item in workshop.build(profile) if item.name == name)
    assert isinstance(plain, Candidate)
    made = baked.raw_form(plain, document, profile)
    assert first_operators(made.data) == ["Cast", "Transpose", "Mul", "Sub", "Div", then]
    expected = answers(model, apply(document, x))
    assert quality.sqnr_db(expected, load(made, Load()).run({"x": x})["y"]) > least_db
