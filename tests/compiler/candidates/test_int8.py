"""Static and dynamic int8: which operators become integers, and what that costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates.gates import expand
from outrider_compiler.normalise import copied
from outrider_compiler.operators import look, share_and_fallback
from outrider_profiles import Profile, load
from tests.compiler.candidates import nets
from tests.compiler.graphs import array, model, value

VNNI, JETSON = load("x86-64-vnni"), load("jetson-orin-nano")
QNN = replace(JETSON, name="npu", providers=(replace(JETSON.providers[0], name="QNNExecutionProvider"),))


def test_large_products_give_floats(tmp_path: Path) -> None:
    """CMP-INT-3: each product by a large weight runs on integers, with its bias; norms and sums stay in float."""
    made = nets.transformer()
    item = nets.built(made, tmp_path, VNNI, "int8_static")
    found = look(item)
    assert found.integer_layers == {"MatMulIntegerToFloat": 8}
    assert found.float_others["LayerNormalization"] == 2
    assert found.float_others["Add"] == 4
    assert min(nets.decibels(made, item).values()) > 35


def test_gelu_is_written_as_engines_fuse_it(tmp_path: Path) -> None:
    """CMP-INT-4: torch's form of GELU reaches the engine's own GELU in every candidate, and stays the same function."""
    made = nets.transformer()
    for name in ("fp32", "int8_static"):
        item = nets.built(made, tmp_path, VNNI, name)
        kinds = look(item).float_others
        assert "Erf" not in kinds
        assert kinds["Gelu"] + kinds["BiasGelu"] == 2
    assert min(nets.decibels(made, nets.built(made, tmp_path, VNNI, "fp32")).values()) > 100


@pytest.mark.parametrize("activation", ["u8", "s8"])
def test_hard_swish_runs_on_integers(activation: str, tmp_path: Path) -> None:
    """CMP-INT-5: between integer convolutions HardSwish is an addition and a product of integers, never floats."""
    made = nets.swishing()
    profile = replace(VNNI, int8=replace(VNNI.int8, activation=activation))
    item = nets.built(made, tmp_path, profile, "int8_static")
    if activation == "u8":
        assert look(item).fallback == ("Gemm × 1", "ReduceMean × 1", "Softmax × 1")
    assert "HardSigmoid" not in nets.kinds(item)
    assert min(nets.decibels(made, item).values()) > 34


def test_the_gate_is_exact_at_its_ends(tmp_path: Path) -> None:
    """CMP-INT-5: below −3 nothing passes, above 3 all does, in integers too."""
    eye = np.eye(64, dtype=np.float32).reshape(64, 64, 1, 1)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first"),
        helper.make_node("HardSwish", ["c"], ["h"], name="swish"),
        helper.make_node("Conv", ["h", "w"], ["y"], name="second"),
    ]
    ends = [value("x", ["b", 64, 1, 1])], [value("y", ["b", 64, 1, 1])]
    made = model(nodes, *ends, [array("w", eye)])
    shop = nets.workshop(made, tmp_path)
    x = np.linspace(-9, 9, 64, dtype=np.float32).reshape(1, 64, 1, 1)
    shop.calibration.feeds["x"][:] = x
    item = shop.build(VNNI, "int8_static")[0]
    assert isinstance(item, Candidate)
    import onnxruntime as ort

    got = ort.InferenceSession(item.data, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0].ravel()
    step = 12 / 255
    assert np.abs(got[x.ravel() <= -3 - step]).max() == 0
    assert np.abs(got - x.ravel())[x.ravel() >= 3].max() < 3 * step


def test_writing_out_hard_swish_changes_nothing() -> None:
    """CMP-INT-5: the gate and the product give HardSwish's values."""
    made, written = nets.swishing(), copied(nets.swishing())
    expand(written)
    assert "HardSwish" not in {node.op_type for node in written.graph.node}
    item = Candidate("written", "fp32", "onnxruntime", written.SerializeToString())
    assert min(nets.decibels(made, item).values()) > 110


def test_a_lone_small_convolution_stays_float(tmp_path: Path) -> None:
    """CMP-INT-6: few products per result between float neighbours do not pay for two roundings; many do."""
    for channels, expected in ((4, "fp32"), (32, "int8")):
        weight = np.random.default_rng(0).normal(size=(16, channels, 3, 3)).astype(np.float32)
        tail = np.random.default_rng(1).normal(size=(256, 64)).astype(np.float32)
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"], name="only", strides=[4, 4]),
            helper.make_node("Sin", ["c"], ["s"]),
            helper.make_node("Reshape", ["s", "shape"], ["r"]),
            helper.make_node("MatMul", ["r", "t"], ["y"], name="product"),
        ]
        made = model(
            nodes, [value("x", ["b", channels, 18, 18])], [value("y", None)],
            [array("w", weight), array("shape", np.array([-1, 256])), array("t", tail[: 16 * 16])],
        )  # fmt: skip
        item = nets.built(made, tmp_path / str(channels), VNNI, "int8_static")
        assert {layer.name: layer.precision for layer in item.layers} == {"only": expected, "product": "int8"}


def test_tensorrt_gets_zero_points_of_0_and_float_biases(tmp_path: Path) -> None:
    """CMP-INT-7: a symmetric profile reads no zero point but 0; roundings stand in front of layers and nowhere else."""
    made = nets.swishing()
    for name in ("int8_static", "int8_static_conv"):
        found = nets.named(nets.workshop(made, tmp_path).build(JETSON, "int8_static"))[name]
        assert isinstance(found, Candidate)
        graph = onnx.load_model_from_string(found.data).graph
        weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        zeros = [node.input[2] for node in graph.node if node.op_type.endswith("eLinear") and len(node.input) > 2]
        assert zeros
        assert not any(weights[zero].any() for zero in zeros)
        assert {weights[zero].dtype for zero in zeros} == {np.dtype(np.int8)}
        readers = {name: node for node in graph.node for name in node.input}
        restored = [node for node in graph.node if node.op_type == "DequantizeLinear"]
        assert {readers[node.output[0]].op_type for node in restored} <= {
            "Conv",
            "Gemm",
            "Add",
        }  # a sum reads the rounded value that a layer reads
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        assert all(weights[node.input[2]].dtype == np.float32 for node in convolutions)
        assert min(nets.decibels(made, found).values()) > 34


def test_an_accelerator_gets_every_operator(tmp_path: Path) -> None:
    """CMP-INT-7: an engine of integers alone gets softmaxes inside in integers too, the one at the end in float."""
    item = nets.built(nets.transformer(), tmp_path, QNN, "int8_static")
    share, fallback = share_and_fallback(item, QNN)
    assert share == 1.0
    assert not any(kind.startswith(("MatMul", "Gemm", "Add")) for kind in fallback)
    graph = onnx.load_model_from_string(item.data).graph
    rounded = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    softmaxes = [node.output[0] for node in graph.node if node.op_type == "Softmax"]
    assert [name in rounded for name in softmaxes] == [True, True, False]


def test_an_output_is_not_rounded_for_its_reader(tmp_path: Path) -> None:
    """CMP-INT-8: the embedding leaves as the float that it is, also where the layer behind it reads integers."""
    made = nets.swishing()
    item = nets.built(made, tmp_path, JETSON, "int8_static")
    graph = onnx.load_model_from_string(item.data).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    assert makers["embedding"] == "ReduceMean"
    assert makers["probabilities"] == "Softmax"


def test_dynamic_leaves_convolutions_to_floats(tmp_path: Path) -> None:
    """CMP-INT-9: int8_dynamic has no ConvInteger; products find their ranges at run time, and the file is small."""
    for make, integers in ((nets.swishing, 1), (nets.transformer, 9)):
        made = make()
        item = nets.built(made, tmp_path, VNNI, "int8_dynamic")
        found = look(item)
        assert found.integer_layers.total() == integers
        assert "ConvInteger" not in found.integer_layers
        assert len(item.data) < 0.36 * len(made.SerializeToString())


def test_nothing_changed_is_no_candidate(tmp_path: Path) -> None:
    """CMP-INT-10: a model without a weight to quantize has no int8, int4, 16-bit or fp16 form, and each says why."""
    made = model([helper.make_node("Sin", ["x"], ["y"])], [value("x", ["b", 4])], [value("y", ["b", 4])], [])
    shop = nets.workshop(made, tmp_path)
    asked = ("fp16", "int8_static", "int8_dynamic", "int8_mixed", "int4_weight", "int16_activation")
    for profile in (VNNI, JETSON):
        for precision in asked:
            for item in shop.build(profile, precision):
                assert isinstance(item, NotBuilt), item
                assert item.reason.startswith("nothing changed"), item


@pytest.mark.parametrize("profile", [VNNI, load("x86-64"), JETSON, QNN], ids=lambda profile: profile.name)
def test_a_fixed_batch_is_calibrated_and_run(profile: Profile, tmp_path: Path) -> None:
    """CMP-INT-11: a model whose batch is fixed gives every form that a free one gives."""
    made = nets.swishing()
    for end in (*made.graph.input, *made.graph.output):
        end.type.tensor_type.shape.dim[0].dim_value = 8
    everything = replace(profile, precisions=("fp32", "fp16", "int8_static", "int8_mixed", "int16_activation"))
    found = nets.named(nets.workshop(made, tmp_path).build(everything))
    for name in ("fp32", "fp16", "int8_static", "int16_activation"):
        item = found[name]
        assert isinstance(item, Candidate), item
        assert min(nets.decibels(made, item).values()) > 30
