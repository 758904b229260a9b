"""From a changed model to a candidate that remembers where the source's layers are in its file.

A layer is a node of the source that multiplies by weights or multiplies two values (convolutions, products, recurrent
cells). Passes keep the names of values; `finish` renames them, so the way back is written down here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outrider_compiler.candidate import Candidate, Layer
from outrider_compiler.candidates.links import Links
from outrider_compiler.normalise import finish

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

LAYERS: Final = {"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN", "Attention", "Einsum"}
ACTIVATIONS: Final = {"Clip", "HardSwish", "LeakyRelu", "Relu"}
BETWEEN: Final = {*ACTIVATIONS, "Add", "Cast", "DequantizeLinear", "Mul", "QuantizeLinear"}
IN_INTEGERS: Final = {
    "ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat",
    "QAttention",
}  # fmt: skip
WIDTHS: Final = {2: "int8", 3: "int8", 4: "int16", 5: "int16", 21: "int4", 22: "int4"}  # TensorProto types
HALF: Final = 10


def finished(
    name: str, precision: str, model: ModelProto, source: ModelProto, recipe: dict[str, Any] | None = None
) -> Candidate:
    """The candidate made of `model`, which came from `source`. Changes `model`."""
    links, original = Links(model), Links(source)
    found = {node.name: _values(node, links, original) for node in source.graph.node if node.op_type in LAYERS}
    runs = {name: _precision(values[-1], links) for name, values in found.items() if values}
    seen = {value: _seen_by_others(value, links) for values in found.values() for value in values}
    before = [list(node.output) for node in model.graph.node]
    data = finish(model)
    after = [list(node.output) for node in model.graph.node]
    names = {old: new for olds, news in zip(before, after, strict=True) for old, new in zip(olds, news, strict=True)}
    layers = tuple(
        Layer(node.name, node.op_type, runs[node.name], tuple((v, names[seen[v]]) for v in found[node.name]))
        for node in source.graph.node
        if node.name in runs
    )
    return Candidate(name, precision, "onnxruntime", data, recipe=recipe or {}, layers=layers)


def _values(node: NodeProto, links: Links, original: Links) -> list[str]:
    """The source's values that show a layer's result, as far as the model has them: behind its activation first."""
    values = [node.output[0]]
    while (taker := original.only_taker(values[0])) is not None and _belongs(taker, values[0], original):
        values.insert(0, taker.output[0])
    return [value for value in values if value in links.makers]


def _belongs(taker: NodeProto, value: str, original: Links) -> bool:
    """Whether a node is the bias or the activation of the layer before it."""
    others = [name for name in taker.input if name != value]
    is_bias = taker.op_type == "Add" and len(others) == 1 and others[0] in original.weights
    return is_bias or taker.op_type in ACTIVATIONS


def _seen_by_others(value: str, links: Links) -> str:
    """What the next layer reads: the value after its rounding, where it is rounded."""
    for taker in links.takers.get(value, []):
        if taker.op_type == "QuantizeLinear":
            restored = links.takers.get(taker.output[0], [])
            if restored and restored[0].op_type == "DequantizeLinear":
                return str(restored[0].output[0])
    return value


def _precision(value: str, links: Links) -> str:
    """What the node that makes `value` (behind a bias or activation) computes in."""
    node = links.makers[value]
    while node.op_type in BETWEEN and (made := [name for name in node.input if name in links.makers]):
        node = links.makers[made[0]]
    if node.op_type in IN_INTEGERS:
        return "int8"
    if node.op_type == "MatMulNBits":
        return "int4 weights"
    return _by_inputs(node, links)


def _by_inputs(node: NodeProto, links: Links) -> str:
    widths = [_width(name, links) for name in node.input[:2]]
    if len(widths) == 2 and all(widths):
        return widths[0]
    half = any(name in links.weights and links.weights[name].data_type == HALF for name in node.input)
    return "fp16" if half else "fp32"


def _width(name: str, links: Links) -> str:
    """The integer type that a value is restored from, '' for none."""
    made = links.makers.get(name)
    if made is None or made.op_type != "DequantizeLinear":
        return ""
    given = links.makers.get(made.input[0])
    zero = given.input[2] if given is not None and len(given.input) > 2 else made.input[0]
    return WIDTHS.get(links.weights[zero].data_type, "") if zero in links.weights else "int8"
