"""Weights that are smaller in the file than in the engine: a few nodes give them back their floats.

1. Those nodes have constant inputs alone, so the engine computes them once, when it loads the model: what runs then
   is the graph of fp32 with its latency, at a half or a quarter of the size.
2. In 8 bits each channel has its own scale, and an error of at most half a step.
3. A weight that is an output, that is small, or that halves cannot hold, stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import numpy as np

from outrider_compiler.candidates.links import Links, add_weight, attribute, set_nodes
from outrider_compiler.data import Array

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

# A restoring node costs 35 bytes (Cast) or 65 (Cast and Mul with its scales).
HALVED_MIN: Final = 64
BYTES_MIN: Final = 256
A_CHANNEL_MIN: Final = 8
HALF_MAX: Final = 65504.0
STEPS: Final = 127

# Axis of the channels that have scales of their own, by operator and place of the weight.
AXES: Final = {
    ("Conv", 1): 0, ("ConvTranspose", 1): 1, ("MatMul", 1): -1, ("MatMul", 0): -2, ("Gather", 0): 0,
    ("LSTM", 1): 1, ("LSTM", 2): 1, ("GRU", 1): 1, ("GRU", 2): 1, ("RNN", 1): 1, ("RNN", 2): 1,
}  # fmt: skip


def halve(model: ModelProto) -> int:
    """Store every float weight in 16 bits; the number of weights. Changes `model`."""
    return _halve(model, Links(model).weights)


def halve_layers(model: ModelProto) -> int:
    """Store the float weights of layers in 16 bits, and no bias or constant; the number of weights. Changes `model`."""
    links = Links(model)
    return _halve(model, [name for name in links.weights if _axis(name, links) is not None])


def _halve(model: ModelProto, names: Iterable[str]) -> int:
    links = Links(model)
    wanted = [name for name in names if _may(name, links)]
    found = [name for name in wanted if links.array(name).size >= HALVED_MIN and _fits_halves(links.array(name))]
    _restore(model, [_from_half(model, name, links.array(name)) for name in found])
    return len(found)


def put_in_bytes(model: ModelProto, without: Iterable[str] = (), *, least: int = BYTES_MIN) -> int:
    """Store float weights of `least` values or more but those of `without` in 8 bits; their number. Changes `model`."""
    links, kept = Links(model), set(without)
    nodes = []
    for name in links.weights:
        axis = _axis(name, links)
        if name not in kept and axis is not None and _may(name, links) and _is_worth_it(links.array(name), axis, least):
            nodes += _from_bytes(model, name, links.array(name), axis)
    _restore(model, nodes)
    return len(nodes) // 2


def _may(name: str, links: Links) -> bool:
    return links.is_float(name) and name not in links.outputs and name not in links.inputs


def _fits_halves(value: Array) -> bool:
    """Neither too large for 16 bits nor (the whole weight) lost below their smallest number."""
    largest = float(np.abs(value).max())
    return largest <= HALF_MAX and (largest == 0.0 or bool(np.abs(value.astype(np.float16)).max() > 0))


def _axis(name: str, links: Links) -> int | None:
    for node in links.takers.get(name, []):
        for place, taken in enumerate(node.input):
            if taken == name and (found := _axis_at(node, place)) is not None:
                return found
    return None


def _axis_at(node: NodeProto, place: int) -> int | None:
    if node.op_type == "Gemm" and place == 1:
        return 0 if attribute(node, "transB", 0) else 1
    return AXES.get((node.op_type, place)) if not node.domain else None


def _is_worth_it(value: Array, axis: int, least: int) -> bool:
    return value.ndim > 1 and value.size >= least and value.size // value.shape[axis] >= A_CHANNEL_MIN


def _from_half(model: ModelProto, name: str, value: Array) -> NodeProto:
    from onnx import TensorProto, helper

    stored = add_weight(model, f"{name}/half", value.astype(np.float16))
    return helper.make_node("Cast", [stored], [name], name=f"{name}/restored", to=TensorProto.FLOAT)


def _from_bytes(model: ModelProto, name: str, value: Array, axis: int) -> list[NodeProto]:
    from onnx import TensorProto, helper

    scale = scales(value, axis, STEPS)
    stored = add_weight(model, f"{name}/bytes", np.clip(np.rint(value / scale), -STEPS, STEPS).astype(np.int8))
    cast = helper.make_node("Cast", [stored], [f"{name}/steps"], name=f"{name}/cast", to=TensorProto.FLOAT)
    by = add_weight(model, f"{name}/scale", scale)
    return [cast, helper.make_node("Mul", [f"{name}/steps", by], [name], name=f"{name}/restored")]


def scales(value: Array, axis: int, steps: int) -> Array:
    """Largest magnitude ÷ `steps` of each channel, broadcastable to `value`; 1 for a channel of zeros."""
    rest = tuple(i for i in range(value.ndim) if i != axis % value.ndim)
    largest = np.abs(value).max(axis=rest, keepdims=True).astype(np.float32)
    return np.where(largest > 0, largest / np.float32(steps), np.float32(1))


def _restore(model: ModelProto, nodes: list[NodeProto]) -> None:
    """Put the restoring nodes first; the weights whose names they give are replaced."""
    given = {name for node in nodes for name in node.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in given]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    set_nodes(model, [*nodes, *model.graph.node])
