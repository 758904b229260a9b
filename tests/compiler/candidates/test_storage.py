"""Weights that are smaller in the file than in the engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates import storage
from outrider_compiler.operators import look
from outrider_profiles import load
from tests.compiler.candidates import nets
from tests.compiler.graphs import array, model, value

VNNI = load("x86-64-vnni")


@pytest.mark.parametrize("make", [nets.swishing, nets.transformer])
def test_a_small_file_runs_the_graph_of_fp32(make: object, tmp_path: Path) -> None:
    """CMP-INT-1: fp16 and int8_weight halve and quarter the file; what the engine runs is fp32's graph."""
    made = make()  # type: ignore[operator]  # a function of nets
    shop = nets.workshop(made, tmp_path)
    found = {item.name: item for name in ("fp32", "fp16", "int8_dynamic") for item in shop.build(VNNI, name)}
    plain = found["fp32"]
    assert isinstance(plain, Candidate)
    for name, ratio, least in (("fp16", 0.56, 60.0), ("int8_weight", 0.36, 38.0)):
        item = found[name]
        assert isinstance(item, Candidate)
        assert look(item).signature == look(plain).signature
        assert len(item.data) < ratio * len(plain.data)
        assert min(nets.decibels(made, item).values()) > least


def test_signatures_tell_graphs_apart(tmp_path: Path) -> None:
    """CMP-INT-1: equal signatures mean equal graphs: integers, or another order of nodes, are another graph."""
    shop = nets.workshop(nets.swishing(), tmp_path)
    found = [item for name in ("fp32", "int8_static", "int8_dynamic") for item in shop.build(VNNI, name)]
    signatures = {item.name: look(item).signature for item in found if isinstance(item, Candidate)}
    assert len({signatures["fp32"], signatures["int8_static"], signatures["int8_dynamic"]}) == 3


@pytest.mark.parametrize(
    ("kind", "shape", "inputs", "axis"),
    [
        ("Conv", (16, 8, 3, 3), ["x", "w"], 0),
        ("ConvTranspose", (8, 16, 3, 3), ["x", "w"], 1),
        ("MatMul", (32, 16), ["x", "w"], 1),
        ("Gather", (40, 16), ["w", "x"], 0),
        ("LSTM", (1, 32, 16), ["x", "w", "r"], 1),
    ],
)
def test_each_channel_has_its_own_scale(kind: str, shape: tuple[int, ...], inputs: list[str], axis: int) -> None:
    """CMP-INT-2: a channel that is a thousand times smaller keeps its seven bits."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=shape).astype(np.float32)
    small = np.moveaxis(weight, axis, 0)
    small[0] /= 1000
    made = model([helper.make_node(kind, inputs, ["y"])], [value("x", None)], [value("y", None)], [array("w", weight)])
    assert storage.put_in_bytes(made) == 1
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    restored = np.moveaxis(stored["w/bytes"].astype(np.float32) * stored["w/scale"], axis, 0)
    error = np.abs(restored - small).reshape(shape[axis], -1).max(axis=1)
    assert (error <= np.abs(small).reshape(shape[axis], -1).max(axis=1) / 127 * 0.5001).all()


def test_what_halves_cannot_hold_stays(tmp_path: Path) -> None:
    """CMP-INT-2: a weight beyond 65504 stays a float; where nothing else is there, fp16 is not built."""
    huge = np.full((64, 64), 1e5, np.float32)
    made = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", ["b", 64])], [value("y", ["b", 64])],
        [array("w", huge)],
    )  # fmt: skip
    found = nets.workshop(made, tmp_path).build(VNNI, "fp16")
    assert isinstance(found[0], NotBuilt)
    assert found[0].reason.startswith("nothing changed")


def test_engines_with_halves_compute_in_them(tmp_path: Path) -> None:
    """CMP-INT-1: off the CPU the whole fp16 graph is in halves, with float32 at its ends."""
    made = nets.transformer()
    item = nets.built(made, tmp_path, load("jetson-orin-nano"), "fp16")
    graph = onnx.load_model_from_string(item.data).graph
    weights = [tensor for tensor in graph.initializer if len(tensor.dims) == 2]
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}
    ends = [*graph.input, *graph.output]
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}
    assert min(nets.decibels(made, item).values()) > 50


def test_a_graph_that_the_converter_refuses_has_halved_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMP-INT-1: an operator that blocks the conversion of the whole graph does not block fp16."""
    from onnxruntime.transformers import float16

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("blocked")

    monkeypatch.setattr(float16, "convert_float_to_float16", refuse)
    made = nets.swishing()
    item = nets.built(made, tmp_path, replace(load("jetson-orin-nano"), name="jetson"), "fp16")
    assert len(item.data) < 0.56 * len(made.SerializeToString())
    assert min(nets.decibels(made, item).values()) > 60
