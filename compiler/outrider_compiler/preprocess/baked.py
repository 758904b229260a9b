"""Writes preprocessing into an ONNX graph: the input keeps its name and becomes raw, a few nodes prepare it.

1. Slice, Cast, Resize, Transpose, Mul, Add, Sub, Div, in the document's order and with its float32 constants: the graph
   gives what the protocol's executor gives.
2. Operators of opset 13 at least: an older model is converted up.
3. The nodes are named `outrider/…`; they stay in float32 in every candidate, and `node_names` tells quantizers which.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from outrider_compiler.data import Array
from outrider_compiler.errors import UnsupportedModelError
from outrider_compiler.normalise import copied, opset_of
from outrider_protocol.manifest import TensorSpec
from outrider_protocol.preprocess import Layout, Normalise, Preprocess, Resize, Scale, Shape, Step, Window, ratio

if TYPE_CHECKING:
    from onnx import ModelProto

PREFIX: Final = "outrider/"
OPSET: Final = 13
IR_VERSION: Final = 4  # from here on a constant need not be an input as well


def bake(model: ModelProto, document: Preprocess) -> ModelProto:
    """A copy of the model that takes `document.raw`; raises `UnsupportedModelError` where its opset is stuck."""
    model = _modern(copied(model))
    graph, name = model.graph, document.raw.name
    writer = _Writer(set(_values(graph)))
    value = name
    for step, shape in zip(document.steps, document.shapes(), strict=False):
        if not isinstance(step, Window):
            value = writer.cast(value, document)
        value = writer.step(value, step, shape)
    value = writer.cast(value, document)
    _rename(graph, name, value)
    nodes = [*writer.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(writer.constants)
    _make_raw(graph, document.raw)
    return model


def node_names(model: ModelProto) -> list[str]:
    """The nodes that prepare the input: no quantizer touches them."""
    return [node.name for node in model.graph.node if node.name.startswith(PREFIX)]


def inputs_of(model: ModelProto) -> tuple[TensorSpec, ...]:
    """What callers must give: the graph's inputs that are no constants."""
    from onnx import helper

    constants = {item.name for item in model.graph.initializer}
    needed = [item for item in model.graph.input if item.name not in constants]
    dtypes = [helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type).name for item in needed]
    return tuple(TensorSpec(item.name, dtype, _lengths(item)) for item, dtype in zip(needed, dtypes, strict=True))


def _lengths(value: Any) -> Shape:
    dimensions = value.type.tensor_type.shape.dim
    return tuple(int(d.dim_value) if d.HasField("dim_value") else -1 for d in dimensions)


def _modern(model: ModelProto) -> ModelProto:
    from onnx import version_converter

    have = opset_of(model)
    if have < OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[-200:]
            raise UnsupportedModelError(
                f"opset {have} cannot be converted to {OPSET}, which preprocessing needs ({reason})",
                f"Export the model with opset {OPSET} or higher, or preprocess outside of it.",
            ) from error
    model.ir_version = max(int(model.ir_version), IR_VERSION)
    return model


class _Writer:
    """Collects nodes and constants under names that the graph does not use."""

    def __init__(self, taken: set[str]) -> None:
        self._taken, self._is_float = taken, False
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def cast(self, value: str, document: Preprocess) -> str:
        """To float32, once, where the raw input is something else."""
        if self._is_float or document.raw.dtype == "float32":
            return value
        from onnx import TensorProto

        self._is_float = True
        return self._node("Cast", value, to=TensorProto.FLOAT)

    def step(self, value: str, step: Step, shape: Shape) -> str:
        """The nodes of one step on an input of `shape`; the name of their result."""
        if isinstance(step, Window):
            bounds = [shape[1] - step.length], [shape[1]], [1]
            return self._node("Slice", value, *(np.asarray(bound, np.int64) for bound in bounds))
        if isinstance(step, Resize):
            return self._resize(value, step, shape)
        if isinstance(step, Layout):
            return self._node("Transpose", value, perm=step.permutation)
        if isinstance(step, Scale):
            value = self._node("Mul", value, np.float32(step.factor))
            return self._node("Add", value, np.float32(step.offset)) if step.offset else value
        return self._normalise(value, step, len(shape))

    def _resize(self, value: str, step: Resize, shape: Shape) -> str:
        ratios = [ratio(have, step.sides.get(axis, have)) if axis else 1.0 for axis, have in enumerate(shape)]
        return self._node(
            "Resize", value, None, np.asarray(ratios, np.float32),
            mode=step.mode, coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor",
        )  # fmt: skip

    def _normalise(self, value: str, step: Normalise, rank: int) -> str:
        columns = [
            np.asarray(values, np.float32).reshape(step.column(values, rank)) for values in (step.mean, step.std)
        ]
        return self._node("Div", self._node("Sub", value, columns[0]), columns[1])

    def _node(self, kind: str, value: str, *constants: Array | np.generic | None, **attributes: Any) -> str:
        from onnx import helper

        result = self._name(kind)
        names = [value, *(self._constant(item) for item in constants)]
        self.nodes.append(helper.make_node(kind, names, [result], name=result, **attributes))
        return result

    def _constant(self, value: Array | np.generic | None) -> str:
        from onnx import numpy_helper

        if value is None:
            return ""
        name = self._name("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _name(self, kind: str) -> str:
        name = f"{PREFIX}{kind.lower()}"
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and all graphs inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _values(graph: Any) -> Iterator[str]:
    """Every name that is used in a graph."""
    for part in _graphs(graph):
        yield from (item.name for item in (*part.input, *part.initializer, *part.node))
        yield from (name for node in part.node for name in (*node.input, *node.output))


def _rename(graph: Any, old: str, new: str) -> None:
    """Let everything that reads the input `old` read `new`."""
    for part in _graphs(graph):
        for node in part.node:
            _replace(node.input, old, new)


def _replace(names: Any, old: str, new: str) -> None:
    for place, name in enumerate(names):
        if name == old:
            names[place] = new


def _make_raw(graph: Any, raw: TensorSpec) -> None:
    from onnx import helper

    kind = next(item for item in graph.input if item.name == raw.name).type.tensor_type
    kind.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(raw.dtype))
    for dimension, length in zip(list(kind.shape.dim)[1:], raw.shape[1:], strict=True):
        dimension.dim_value = length
    kept = [item for item in graph.value_info if item.name != raw.name]
    del graph.value_info[:]
    graph.value_info.extend(kept)
