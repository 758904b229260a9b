"""Who makes and who takes each value of a model's main graph, for the passes that change it.

A pass reads `Links`, writes a new list of nodes in an order that can be computed, and prunes what nobody takes any
more. Values that a subgraph takes count as taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from outrider_compiler import graph_walk
from outrider_compiler.data import Array

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto


class Links:
    """`makers` by value, `takers` by value, `weights` (initializers) by name, and the names of inputs and outputs."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.makers: dict[str, NodeProto] = {name: node for node in graph.node for name in node.output if name}
        self.weights: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = {value.name for value in graph.input}
        self.outputs = {value.name for value in graph.output}
        self.takers: dict[str, list[NodeProto]] = {}
        for node in graph_walk.nodes(model):
            for name in dict.fromkeys(node.input):
                self.takers.setdefault(name, []).append(node)

    def array(self, name: str) -> Array:
        """A weight's values."""
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.weights[name]))

    def is_float(self, name: str) -> bool:
        """Whether a weight of this name holds float32."""
        from onnx import TensorProto

        return name in self.weights and self.weights[name].data_type == TensorProto.FLOAT

    def only_taker(self, name: str) -> NodeProto | None:
        """The node that alone takes a value which is no output of the model."""
        takers = self.takers.get(name, [])
        return takers[0] if len(takers) == 1 and name not in self.outputs else None


def attribute(node: NodeProto, name: str, otherwise: Any) -> Any:
    """The value of a node's attribute, or `otherwise`."""
    from onnx import helper

    found = [item for item in node.attribute if item.name == name]
    return helper.get_attribute_value(found[0]) if found else otherwise


def set_nodes(model: ModelProto, nodes: Iterable[NodeProto]) -> None:
    """Let the graph consist of `nodes`, and drop those that nobody takes with the weights that they alone took."""
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    prune(model)


def prune(model: ModelProto) -> None:
    """Drop nodes without a taker, then weights without one. Changes `model`."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    while True:
        taken = {name for node in graph_walk.nodes(model) for name in node.input} | outputs
        dead = [node for node in graph.node if not taken.intersection(node.output)]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    inner = {value.name for part in graph_walk.graphs(model) for value in part.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in taken | inner]
    if len(kept) != len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)


def add_weight(model: ModelProto, name: str, value: Array) -> str:
    """Add an initializer; its name."""
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
    return name


def use_domain(model: ModelProto, domain: str) -> None:
    """Let the model import version 1 of a domain."""
    from onnx import helper

    if not any(item.domain == domain for item in model.opset_import):
        model.opset_import.append(helper.make_opsetid(domain, 1))
