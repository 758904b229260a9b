"""A model whose roundings can be switched on and off one by one, without building a session for each question.

From a float model and its QDQ form: wherever the QDQ form reads a rounded value, `Where(switch, rounded, value)` reads
either. The switches are inputs. Which switches belong to a node follows ONNX Runtime's rule: a value is rounded as
long as one quantized node makes it or reads it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from outrider_compiler.candidates.links import Links, add_weight, set_nodes
from outrider_compiler.data import Feeds
from outrider_compiler.engines import in_batches
from outrider_compiler.normalise import copied
from outrider_protocol.manifest import TensorSpec

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

PREFIX: Final = "outrider/switch/"
PLAIN: Final = "/plain"


@dataclass(frozen=True)
class Pair:
    """A rounding: `restored` is the value after it; `nodes` make or read the value and are quantized."""

    restored: str
    value: str
    nodes: frozenset[str]


class Switches:
    """The switched model as a session; `layers` are the nodes that own a rounding."""

    def __init__(self, plain: ModelProto, qdq: ModelProto, layers: Collection[str]) -> None:
        self.pairs = _pairs(plain, qdq, layers)
        self._session = _session(_switched(plain, qdq, self.pairs))
        self._outputs = [value.name for value in qdq.graph.output]
        first = self._session.get_inputs()[0]
        shape = tuple(size if isinstance(size, int) else -1 for size in first.shape)
        self._first = TensorSpec(first.name, "", shape)

    def run(self, feeds: Feeds, floats: Collection[str]) -> Feeds:
        """Outputs with the nodes `floats` in float and all others rounded."""
        left = set(floats)
        states = {f"{PREFIX}{i}": np.asarray(not pair.nodes <= left) for i, pair in enumerate(self.pairs)}

        def batch(part: Feeds) -> Feeds:
            return dict(zip(self._outputs, self._session.run(self._outputs, {**part, **states}), strict=True))

        return in_batches(batch, (self._first,), feeds)


def _pairs(plain: ModelProto, qdq: ModelProto, layers: Collection[str]) -> list[Pair]:
    links, names, floats = Links(qdq), set(layers), {node.name: node for node in plain.graph.node}
    pairs = []
    for node in qdq.graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        rounded = links.makers.get(node.input[0])
        readers = [taker for taker in links.takers.get(node.output[0], []) if taker.op_type != "QuantizeLinear"]
        if rounded is None:
            value = _weight(node.output[0], readers, floats)
            owners = readers
        else:
            value = rounded.input[0]
            owners = [*readers, *([links.makers[value]] if value in links.makers else [])]
        if value:
            pairs.append(Pair(node.output[0], value, frozenset(item.name for item in owners) & names))
    return pairs


def _weight(restored: str, readers: list[NodeProto], floats: dict[str, NodeProto]) -> str:
    """The float weight that a reader of its rounded form reads in the plain model."""
    for reader in readers:
        for place, name in enumerate(reader.input):
            if name == restored and reader.name in floats and place < len(floats[reader.name].input):
                return str(floats[reader.name].input[place])
    return ""


def _switched(plain: ModelProto, qdq: ModelProto, pairs: list[Pair]) -> ModelProto:
    from onnx import TensorProto, helper

    model, original = copied(qdq), Links(plain)
    for name in sorted({pair.value for pair in pairs if pair.value in original.weights}):
        add_weight(model, f"{name}{PLAIN}", original.array(name))
    by_restored = {pair.restored: (number, pair) for number, pair in enumerate(pairs)}
    links, nodes = Links(model), []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type == "DequantizeLinear" and node.output[0] in by_restored:
            number, pair = by_restored[node.output[0]]
            nodes += _switch(node, number, pair, links, original)
            model.graph.input.append(helper.make_tensor_value_info(f"{PREFIX}{number}", TensorProto.BOOL, []))
    set_nodes(model, nodes)
    return model


def _switch(node: NodeProto, number: int, pair: Pair, links: Links, original: Links) -> list[NodeProto]:
    """The nodes that choose; what reads the rounded value reads their result under its name."""
    from onnx import helper

    name, rounded = node.output[0], f"{node.output[0]}/rounded"
    node.output[0] = rounded
    activation = _merged_activation(pair.value, links, original)
    value = f"{pair.value}{PLAIN}" if pair.value in original.weights else pair.value
    value = f"{pair.value}/active{number}" if activation is not None else value
    nodes = []
    if activation is not None:
        nodes.append(_again(activation, pair.value, value))
    choice = helper.make_node("Where", [f"{PREFIX}{number}", rounded, value], [name], name=f"{PREFIX}{number}/choice")
    return [*nodes, choice]


def _merged_activation(value: str, links: Links, original: Links) -> NodeProto | None:
    """The Relu or Clip of the plain model that the QDQ form leaves to the rounding."""
    had, has = original.makers.get(value), links.makers.get(value)
    is_merged = had is not None and has is not None and had.op_type in {"Relu", "Clip"} and has.op_type != had.op_type
    return had if is_merged else None


def _again(activation: NodeProto, value: str, result: str) -> NodeProto:
    again = type(activation)()
    again.CopyFrom(activation)
    again.name = f"{result}/again"
    again.input[0], again.output[0] = value, result
    return again


def _session(model: ModelProto) -> Any:
    import onnxruntime as ort

    from outrider_compiler.engines import PROVIDERS, session_options

    options = session_options(threads=1, optimize=False)
    return ort.InferenceSession(model.SerializeToString(), options, providers=PROVIDERS)
