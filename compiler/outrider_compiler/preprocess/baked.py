"""Writes preprocessing into a finished ONNX candidate: the input keeps its name and becomes raw, some nodes prepare it.

1. Slice, Cast, Resize, Transpose, Mul, Add, Sub, Div, in the document's order and with its float32 constants: the graph
   gives what the protocol's executor gives. They come last, in front of a graph that is quantized already.
2. Where the file's format, its version or the profile (a denied operator, integers alone) does not allow them, the
   candidate carries the document instead, as a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from outrider_compiler.candidate import Candidate
from outrider_compiler.data import Array
from outrider_compiler.normalise import finish, opset_of
from outrider_profiles import Profile
from outrider_protocol.manifest import TensorSpec
from outrider_protocol.preprocess import Layout, Normalise, Preprocess, Resize, Scale, Shape, Step, Window, ratio

if TYPE_CHECKING:
    from onnx import ModelProto

PREFIX: Final = "outrider/"
OPSET: Final = 11  # Resize with half-pixel centres
IR_VERSION: Final = 4  # a constant need not be an input as well


def raw_form(candidate: Candidate, document: Preprocess, profile: Profile) -> Candidate:
    """The candidate that takes the raw input: by its own graph where that is allowed, else by a layer."""
    if profile.engine.format != "onnx" or profile.int8.full:
        return replace(candidate, preprocess=document.encode())
    import onnx

    model = onnx.load_model_from_string(candidate.data)
    bake(model, document)
    operators = {node.op_type for node in model.graph.node if node.name.startswith(PREFIX)}
    too_old = opset_of(model) < OPSET or model.ir_version < IR_VERSION
    if too_old or operators & set(profile.deny_operators):
        return replace(candidate, preprocess=document.encode())
    return replace(candidate, data=finish(model))


def bake(model: ModelProto, document: Preprocess) -> None:
    """Let the model take `document.raw`. Changes `model`."""
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
        nothing = np.zeros(0, np.float32)
        ratios = [ratio(have, step.sides.get(axis, have)) if axis else 1.0 for axis, have in enumerate(shape)]
        return self._node(
            "Resize", value, nothing, np.asarray(ratios, np.float32),
            mode=step.mode, coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor",
        )  # fmt: skip

    def _normalise(self, value: str, step: Normalise, rank: int) -> str:
        columns = [
            np.asarray(values, np.float32).reshape(step.column(values, rank)) for values in (step.mean, step.std)
        ]
        return self._node("Div", self._node("Sub", value, columns[0]), columns[1])

    def _node(self, kind: str, value: str, *constants: Array | np.generic, **attributes: Any) -> str:
        from onnx import helper

        result = self._name(kind)
        names = [value, *(self._constant(item) for item in constants)]
        self.nodes.append(helper.make_node(kind, names, [result], name=result, **attributes))
        return result

    def _constant(self, value: Array | np.generic) -> str:
        from onnx import numpy_helper

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
