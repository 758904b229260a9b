"""Weights of 4 bits, and activations of 16."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates import Workshop
from outrider_compiler.candidates.int4 import BLOCK, in_blocks
from outrider_compiler.data import DataSet
from outrider_compiler.engines import load as load_candidate
from outrider_compiler.importers.imported import Imported
from outrider_compiler.operators import share_and_fallback
from outrider_compiler.quality import sqnr_db
from outrider_profiles import Load, load
from tests.compiler.candidates import nets
from tests.compiler.graphs import array, model, value

VNNI, JETSON = load("x86-64-vnni"), load("jetson-orin-nano")
BLOCKED = replace(JETSON, opset=replace(JETSON.opset, min=21, max=21))


def product(k: int, n: int, *, gemm: bool = False) -> onnx.ModelProto:
    """x [b, k] by a weight of heavy tails."""
    rng = np.random.default_rng(0)
    weight = (rng.standard_t(5, (k, n)) / np.sqrt(k)).astype(np.float32)
    bias = rng.normal(size=n).astype(np.float32)
    if gemm:
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="product", transB=1)]
        return model(nodes, [value("x", ["b", k])], [value("y", ["b", n])], [array("w", weight.T), array("b", bias)])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("Add", ["m", "b"], ["y"], name="bias"),
    ]
    return model(nodes, [value("x", ["b", k])], [value("y", ["b", n])], [array("w", weight), array("b", bias)])


@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize("k", [256, 200])
def test_large_products_have_4_bits(k: int, gemm: bool, tmp_path: Path) -> None:  # a parameter of the test
    """CMP-INT-14: five bits a weight with its scale, also where the blocks do not divide the weight."""
    made = product(k, 128, gemm=gemm)
    item = nets.built(made, tmp_path, VNNI, "int4_weight")
    assert nets.kinds(item) == ["MatMulNBits"]
    assert len(item.data) < 0.19 * len(made.SerializeToString())
    assert nets.decibels(made, item)["y"] > 18


@pytest.mark.parametrize("gemm", [False, True])
def test_the_standard_form_needs_no_domain(gemm: bool, tmp_path: Path) -> None:  # a parameter of the test
    """CMP-INT-14: without com.microsoft's operator the weight is a blocked DequantizeLinear of opset 21."""
    made = product(256, 128, gemm=gemm)
    item = nets.built(made, tmp_path, BLOCKED, "int4_weight")
    found = onnx.load_model_from_string(item.data)
    assert {entry.domain for entry in found.opset_import} == {""}
    assert onnx.TensorProto.INT4 in {tensor.data_type for tensor in found.graph.initializer}
    assert nets.decibels(made, item)["y"] > 18


def test_blocks_have_the_least_error() -> None:
    """CMP-INT-14: the searched scales beat the one that holds the largest weight, and hold it where that is best."""
    columns = np.random.default_rng(0).standard_t(5, (64, 8 * BLOCK)).astype(np.float32)
    blocks = columns.reshape(64, 8, BLOCK)
    plain = np.abs(blocks).max(axis=2, keepdims=True) / 7
    usual = np.clip(np.rint(blocks / plain), -8, 7) * plain
    for signed, gain in ((True, 1.2), (False, 0.8)):
        whole, scale = in_blocks(columns, signed=signed)
        assert whole.min() >= -8
        assert whole.max() <= 7
        assert signed or (scale > 0).all()
        assert sqnr_db(blocks, whole * scale[..., None]) > sqnr_db(blocks, usual) + gain
    whole, scale = in_blocks(np.zeros((2, BLOCK), np.float32), signed=True)
    assert not whole.any()
    assert np.isfinite(scale).all()


def test_small_products_and_embeddings_stay(tmp_path: Path) -> None:
    """CMP-INT-14: no large product, no int4: a table that is looked up is none."""
    table = array("w", np.random.default_rng(0).normal(size=(500, 64)).astype(np.float32))
    lookup = helper.make_node("Gather", ["w", "x"], ["y"])
    embedding = model([lookup], [value("x", ["b"], onnx.TensorProto.INT64)], [value("y", ["b", 64])], [table])
    for made in (embedding, product(64, 64)):
        imported = Imported(made, "onnx", "sha256:0")
        shop = Workshop(
            imported, imported.simplified, DataSet({"x": np.zeros((1, 64), np.float32)}, None, ""), tmp_path
        )
        (item,) = shop.build(VNNI, "int4_weight")
        assert isinstance(item, NotBuilt)
        assert "no MatMul or Gemm" in item.reason


def test_an_engine_without_4_bits_says_so(tmp_path: Path) -> None:
    """CMP-INT-14: neither the operator nor opset 21."""
    (item,) = nets.workshop(product(256, 128), tmp_path).build(JETSON, "int4_weight")
    assert item == NotBuilt("int4_weight", "4-bit blocks need opset 21, the profile reads 19")


@pytest.mark.parametrize("opset", [18, 21])
def test_activations_of_16_bits_keep_more(opset: int, tmp_path: Path) -> None:
    """CMP-INT-15: A16W8 is closer to the source than int8, with every layer between integers, in old opsets too."""
    profile = replace(
        JETSON, opset=replace(JETSON.opset, min=opset, max=opset),
        int8=replace(JETSON.int8, activation="u8", symmetric=False),
        providers=(replace(JETSON.providers[0], name="QNNExecutionProvider"),),
    )  # fmt: skip
    made = nets.transformer()
    shop = nets.workshop(made, tmp_path)
    wide, narrow = (shop.build(profile, name)[0] for name in ("int16_activation", "int8_static"))
    assert isinstance(wide, Candidate)
    assert isinstance(narrow, Candidate)
    got = {item.name: min(nets.decibels(made, item).values()) for item in (wide, narrow)}
    assert got["int16_activation"] > got["int8_static"] + 2
    assert share_and_fallback(wide, profile)[0] == 1.0
    zeros = {tensor.data_type for tensor in onnx.load_model_from_string(wide.data).graph.initializer}
    assert onnx.TensorProto.UINT16 in zeros
    assert load_candidate(wide, Load()).inputs[0].dtype == "float32"
