"""ONNX Runtime's static quantizer on chosen nodes, and what is better about its result afterwards.

1. Biases stay floats where the engine rounds them itself: a stored bias costs a scale and a zero point per channel.
2. Zero points of 0 of weights are left out (0 is the default), where ONNX Runtime's CPU reads the file.
3. A float operator's value that is an output leaves as the float that it is, not rounded for the sake of a reader.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler.candidates.links import Links, prune
from outrider_compiler.candidates.target import Target
from outrider_compiler.normalise import copied

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

COMPLAINTS: Final = (ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError)
LAYERS: Final = ["Conv", "ConvTranspose", "Gemm", "MatMul"]


def supported() -> set[str]:
    """Operators that the quantizer knows."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return set(QDQRegistry) | set(QLinearOpsRegistry)


def quantized(
    model: ModelProto,
    nodes: Collection[str],
    ranges: Any,
    target: Target,
    *,
    bits: int = 8,
    float_results: Collection[str] = (),
) -> ModelProto:
    """A copy whose `nodes` (by name) stand between DequantizeLinear and QuantizeLinear; raises `COMPLAINTS`.

    `bits` of activations are 8 or 16; what operators of the kinds `float_results` give is not rounded.
    """
    if not nodes:
        return copied(model)
    made = _quantize(copied(model), sorted(nodes), ranges, target, bits, sorted(float_results))
    _free_outputs(made)
    if target.on_cpu:
        _leave_out_zeros(made)
    prune(made)
    return made


def _quantize(
    model: ModelProto, nodes: list[str], ranges: Any, target: Target, bits: int, float_results: list[str]
) -> ModelProto:
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    int8 = target.int8
    quantizer = QDQQuantizer(
        model,
        per_channel=int8.per_channel,
        reduce_range=int8.reduce_range,
        weight_qType=_type(int8.weight, 8),
        activation_qType=_type(int8.activation, bits),
        tensors_range=ranges,
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=sorted(supported()),
        extra_options={
            "ActivationSymmetric": int8.symmetric,
            "WeightSymmetric": int8.weight == "s8",
            "QuantizeBias": not target.float_bias,
            "OpTypesToExcludeOutputQuantization": float_results,
        },
    )
    quantizer.quantize_model()
    made: ModelProto = quantizer.model.model
    return made


def _type(word: str, bits: int) -> Any:
    from onnxruntime.quantization import QuantType

    types = {8: {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}, 16: {"u8": QuantType.QUInt16, "s8": QuantType.QInt16}}
    return types[bits][word]


def has_integer_weight(model: ModelProto) -> bool:
    """Whether an operator reads a weight of more than one dimension that is stored in integers."""
    links = Links(model)
    return any(
        node.op_type == "DequantizeLinear" and len(links.weights[node.input[0]].dims) > 1
        for node in model.graph.node
        if node.input and node.input[0] in links.weights
    )


def _free_outputs(model: ModelProto) -> None:
    """Let a float operator give an output directly, and the rounded value go to the readers alone."""
    links = Links(model)
    for restored in model.graph.node:
        if restored.op_type != "DequantizeLinear" or restored.output[0] not in links.outputs:
            continue
        rounded = links.makers.get(restored.input[0])
        maker = links.makers.get(rounded.input[0]) if rounded is not None else None
        if rounded is None or maker is None or rounded.op_type != "QuantizeLinear" or _in_integers(maker, links):
            continue
        _exchange(rounded, restored, maker, links)


def _in_integers(maker: NodeProto, links: Links) -> bool:
    """Whether the engine will run this operator on integers: all that it reads is restored from them."""
    from outrider_compiler.candidates.chains import FLOAT_BETWEEN

    made = [links.makers[name] for name in maker.input if name in links.makers]
    restored = [node for node in made if node.op_type == "DequantizeLinear"]
    return bool(restored) and len(restored) == len(made) and maker.op_type not in FLOAT_BETWEEN


def _exchange(rounded: NodeProto, restored: NodeProto, maker: NodeProto, links: Links) -> None:
    name, inner = restored.output[0], f"{restored.output[0]}/rounded"
    for taker in links.takers.get(name, []):
        _rename(taker.input, name, inner)
    _rename(maker.output, rounded.input[0], name)
    rounded.input[0] = name
    restored.output[0] = inner


def _rename(names: Any, old: str, new: str) -> None:
    for place, name in enumerate(names):
        if name == old:
            names[place] = new


def _leave_out_zeros(model: ModelProto) -> None:
    links = Links(model)
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or len(node.input) < 3 or node.input[0] not in links.weights:
            continue
        if node.input[2] in links.weights and not links.array(node.input[2]).any():
            del node.input[2]
