"""Every graph, node and tensor of an ONNX model: subgraphs of If, Loop and Scan and the bodies of local functions too.

Without recursion, so that no depth of nesting can exhaust the interpreter's stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto


def graphs(model: ModelProto) -> Iterator[GraphProto]:
    """The main graph first, then each subgraph."""
    yield model.graph
    waiting = [node for function in model.functions for node in function.node] + list(model.graph.node)
    while waiting:
        for inner in subgraphs(waiting.pop()):
            yield inner
            waiting.extend(inner.node)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs that a node holds as attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Every node, those of local functions last."""
    for graph in graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor with values: initializers, sparse ones in their two parts, and attributes of nodes."""
    for graph in graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in nodes(model):
        for attribute in node.attribute:
            yield from _of(attribute)


def constants(model: ModelProto) -> dict[str, TensorProto]:
    """Values that are known before the model runs, by name: initializers and the outputs of Constant nodes."""
    known = {tensor.name: tensor for graph in graphs(model) for tensor in graph.initializer}
    for node in nodes(model):
        if node.op_type == "Constant" and node.output:
            known.update((node.output[0], item.t) for item in node.attribute if item.HasField("t"))
    return known


def _of(attribute: Any) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    sparse = list(attribute.sparse_tensors)
    if attribute.HasField("sparse_tensor"):
        sparse.append(attribute.sparse_tensor)
    for item in sparse:
        yield from (item.values, item.indices)
