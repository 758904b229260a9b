"""HardSwish and HardSigmoid in integers, which ONNX Runtime has no kernel for.

Each HardSwish between two integer convolutions costs a way into floats and back. But in integers the gate of
x·clip(x/6 + ½, 0, 1) is an addition alone: round x + 3 with a step of 6/255 from 0 on, so that the rounding itself
clips it to 0..6, and read the integers with a step of 1/255. So `QLinearAdd` and `QLinearMul` do it all.

1. `expand` writes HardSwish as its gate and a product, before ranges are asked for: still a float graph, same values.
2. `to_integers` turns the gates of a quantized graph that read and give integers.
3. HardSwish is 0 below −3, so a value that it alone reads needs no range below −3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from outrider_compiler.candidates.links import Links, add_weight, attribute, set_nodes
from outrider_compiler.candidates.steps import bounds

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

GATE, PRODUCT = "/gate", "/product"
ALPHA: Final = 1 / 6
LEVELS: Final = 255
LOWEST: Final = -3.0
THREE: Final = 3.0
SIX: Final = 6.0


def expand(model: ModelProto) -> None:
    """Write each HardSwish as HardSigmoid and Mul. Changes `model`."""
    from onnx import helper

    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type != "HardSwish" or node.domain:
            nodes.append(node)
            continue
        x, gate = node.input[0], f"{node.output[0]}{GATE}"
        nodes.append(helper.make_node("HardSigmoid", [x], [gate], name=node.name + GATE, alpha=ALPHA, beta=0.5))
        nodes.append(helper.make_node("Mul", [x, gate], [node.output[0]], name=node.name + PRODUCT))
    set_nodes(model, nodes)


def is_gate(node: NodeProto) -> bool:
    """Whether a node is clip(x/6 + ½, 0, 1)."""
    is_sixth = abs(attribute(node, "alpha", 0.2) - ALPHA) < 1e-4 and attribute(node, "beta", 0.5) == 0.5
    return bool(node.op_type == "HardSigmoid" and not node.domain and is_sixth)


def ranges_with_gates(model: ModelProto, ranges: Any) -> Any:
    """The ranges of an expanded model: gates lie in 0..1, and what HardSwish alone reads begins at −3."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

    links, values = Links(model), dict(ranges.items())
    for node in model.graph.node:
        if is_gate(node):
            values[node.output[0]] = _range(TensorData, 0.0, 1.0)
        if is_gate(node) and _is_read_by_hard_swish_alone(node, links) and node.input[0] in values:
            low, high = bounds(ranges, node.input[0])
            values[node.input[0]] = _range(TensorData, max(low, LOWEST), high)
    return TensorsData(CalibrationMethod.MinMax, values)


def _range(kind: Any, low: float, high: float) -> Any:
    return kind(lowest=np.asarray(low, np.float32), highest=np.asarray(high, np.float32))


def _is_read_by_hard_swish_alone(gate: NodeProto, links: Links) -> bool:
    x = gate.input[0]
    takers = {taker.name for taker in links.takers.get(x, [])}
    return x not in links.outputs and takers == {gate.name, gate.name.removesuffix(GATE) + PRODUCT}


def to_integers(model: ModelProto) -> None:
    """Turn each gate between DequantizeLinear and QuantizeLinear into an addition in integers. Changes `model`."""
    links = Links(model)
    for node in list(model.graph.node):
        rounded = links.only_taker(node.output[0]) if is_gate(node) else None
        before = links.makers.get(node.input[0]) if rounded is not None else None
        restored = links.takers.get(rounded.output[0], []) if rounded is not None else []
        if before is None or rounded is None or before.op_type != "DequantizeLinear":
            continue
        if rounded.op_type == "QuantizeLinear" and all(item.op_type == "DequantizeLinear" for item in restored):
            _turn(model, node, rounded, restored)


def _turn(model: ModelProto, gate: NodeProto, rounded: NodeProto, restored: list[NodeProto]) -> None:
    from onnx import helper

    three = _three(model, rounded)
    place = list(model.graph.node).index(gate)
    addition = helper.make_node("Add", [gate.input[0], three], list(gate.output), name=gate.name)
    model.graph.node[place].CopyFrom(addition)
    rounded.input[1] = _scale(model, "outrider/six", SIX / LEVELS)
    for item in restored:
        item.input[1] = _scale(model, "outrider/one", 1 / LEVELS)


def _three(model: ModelProto, rounded: NodeProto) -> str:
    """The constant 3, restored from an integer: with integers on both sides the addition runs on them."""
    from onnx import helper

    name = "outrider/three"
    if not any(name in node.output for node in model.graph.node):
        zero = rounded.input[2]
        dtype = Links(model).array(zero).dtype
        add_weight(model, f"{name}/integer", np.ones((), dtype))
        add_weight(model, f"{name}/zero", np.zeros((), dtype))
        inputs = [f"{name}/integer", _scale(model, f"{name}/scale", THREE), f"{name}/zero"]
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], name=name))
    return name


def _scale(model: ModelProto, name: str, value: float) -> str:
    if not any(tensor.name == name for tensor in model.graph.initializer):
        add_weight(model, name, np.asarray(value, np.float32))
    return name
