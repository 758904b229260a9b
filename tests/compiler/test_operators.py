"""Share of operators on integers, fallback, and layers' figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from outrider_compiler.candidate import Candidate
from outrider_compiler.operators import look, quantized_share, share_and_fallback
from outrider_profiles import load
from tests.compiler.candidates import nets

VNNI, JETSON = load("x86-64-vnni"), load("jetson-orin-nano")


def test_a_float_candidate_has_no_share(tmp_path: Path) -> None:
    """CMP-OPS-1: fp32 and fp16 quantize nothing and have nothing to fall back."""
    for name in ("fp32", "fp16"):
        assert share_and_fallback(nets.built(nets.swishing(), tmp_path, VNNI, name)) == (0.0, ())


def test_fallback_counts_what_computes_in_float(tmp_path: Path) -> None:
    """CMP-OPS-1: kinds with counts from the engine's own graph, layers first, nothing that only moves values."""
    item = nets.built(nets.transformer(), tmp_path, VNNI, "int8_static")
    share, fallback = share_and_fallback(item)
    assert share == quantized_share(item) == pytest.approx(8 / 13, abs=1e-4)
    assert fallback[:3] == ("FusedMatMul × 2", "MatMul × 2", "Gemm × 1")
    assert "LayerNormalization × 2" in fallback
    assert not any(kind.startswith(("Transpose", "Reshape", "QuantizeLinear", "DequantizeLinear")) for kind in fallback)


def test_another_engine_is_counted_in_the_file(tmp_path: Path) -> None:
    """CMP-OPS-2: QDQ that this machine's engine cannot fuse still says what the board's engine will."""
    item = nets.built(nets.swishing(), tmp_path, JETSON, "int8_static")
    assert share_and_fallback(item, JETSON)[0] == 1.0
    assert look(item).share < 1.0


def test_layers_are_compared_one_by_one(tmp_path: Path) -> None:
    """CMP-LYR-1: each layer under the source's name with its kind, its ratio and what it computes in."""
    made = nets.swishing()
    shop = nets.workshop(made, tmp_path)
    shop.build(VNNI)
    found = shop.layers(VNNI, "int8_static")
    assert [layer.name for layer in found] == [*(f"conv{i}" for i in range(6)), "head"]
    assert [layer.precision for layer in found] == ["int8"] * 6 + ["fp32"]
    assert {layer.kind for layer in found} == {"Conv", "Gemm"}
    assert all(25 < layer.sqnr_db < 60 for layer in found)
    assert found[0].json() == {"name": "conv0", "kind": "Conv", "sqnr_db": found[0].sqnr_db, "precision": "int8"}
    assert all(layer.sqnr_db == 200.0 for layer in shop.layers(VNNI, "fp32"))
    assert shop.layers(VNNI, "nothing") == ()


def test_the_spoiled_layer_stands_out(tmp_path: Path) -> None:
    """CMP-LYR-1: where one value does not bear 8 bits, its layers are the worst, and kept in float they are not."""
    made = nets.spiky()
    shop = nets.workshop(made, tmp_path)
    profile = replace(VNNI, precisions=("fp32", "int8_static", "int8_mixed"))
    shop.build(profile)
    static = {layer.name: layer.sqnr_db for layer in shop.layers(profile, "int8_static")}
    kept = {layer.name: layer for layer in shop.layers(profile, "int8_mixed")}
    assert static["conv2"] < 15 < static["conv0"]
    assert kept["conv2"].precision == "fp32"
    assert kept["conv2"].sqnr_db > static["conv2"] + 20


@pytest.mark.parametrize("name", ["int8_static", "int8_dynamic", "int8_weight", "int4_weight", "fp16"])
def test_every_form_shows_its_layers(name: str, tmp_path: Path) -> None:
    """CMP-LYR-2: products that were fused, packed or restored are found again under their names."""
    made = nets.transformer()
    shop = nets.workshop(made, tmp_path)
    built = nets.named(shop.build(VNNI))[name]
    assert isinstance(built, Candidate)
    found = shop.layers(VNNI, name)
    assert len(found) == 13
    assert [layer.name for layer in found][:3] == ["b0.q", "b0.v", "b0.scores"]
    assert all(layer.sqnr_db > 8 for layer in found)
    precision = {"int8_static": "int8", "int8_dynamic": "int8", "int4_weight": "int4 weights"}.get(name, "fp32")
    assert next(layer for layer in found if layer.name == "b1.up").precision == precision
