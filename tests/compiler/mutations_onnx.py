"""Damage to what stands in an ONNX model: from wrong numbers to whole operators with extreme ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from outrider_compiler import graph_walk
from tests.compiler import graphs
from tests.compiler.graphs import array, value

NUMBERS: Final = (0, 1, -1, 2, 7, 255, -128, 2**16, 2**31 - 1, -(2**31), 2**32, 2**40, 2**62, 2**63 - 1, -(2**63))
NAMES: Final = ("", "x", "y", "w1", "\0", "a\nb", "\x1b[31m", "ü" * 3, "../up", "%s%n", "n" * 5000)
OPERATORS: Final = (
    "Relu", "Conv", "Reshape", "Loop", "If", "Scan", "Gather", "Resize", "TopK", "Expand", "Tile", "Pad", "Slice",
    "Concat", "Einsum", "LSTM", "ConvTranspose", "MaxPool", "NonZero", "Range", "DFT", "OneHot", "ScatterND",
    "QuantizeLinear", "ConstantOfShape", "Nonsense",
)  # fmt: skip


def onnx_sources() -> list[onnx.ModelProto]:
    """What is damaged: old and new versions, integers, subgraphs, a loop, a local function, quantized weights."""
    elu = helper.make_node("Elu", ["x"], ["chosen"])
    body = [helper.make_node("Relu", ["a"], ["b"])]
    own = helper.make_function("local", "Own", ["a"], ["b"], body, [helper.make_opsetid("", 18)])
    call = helper.make_node("Own", ["logits"], ["s"], domain="local")
    return [
        graphs.dense(), graphs.dense(8, 3), graphs.dense(13), graphs.dense(22, 10), graphs.embedding(),
        graphs.quantized(3), graphs.branching(elu), looping(3),
        graphs.dense(extra=[call], functions=[own], domains=["local"]), convolution(),
    ]  # fmt: skip


def looping(times: int) -> onnx.ModelProto:
    """A Loop whose number of turns cannot be known before it runs."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["v"], ["w"])],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("v", ["n", 4])],
        [value("on", [], TensorProto.BOOL), value("w", ["n", 4])],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Sub", ["sum", "sum"], ["none"]),
        helper.make_node("Cast", ["none"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Add", ["whole", "times"], ["turns"]),
        helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body),
    ]
    weights = [array("times", np.array(times, np.int64)), array("yes", np.array(True))]
    return graphs.model(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], weights)


def convolution() -> onnx.ModelProto:
    """x [batch, 2, 8, 8] → Conv, MaxPool, Reshape, Softmax: operators with many attributes."""
    weights = [array("w", np.ones((3, 2, 3, 3), np.float32)), array("shape", np.array([-1, 27], np.int64))]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[0, 0, 0, 0], group=1),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["p", "shape"], ["r"]),
        helper.make_node("Softmax", ["r"], ["probabilities"], axis=1),
    ]
    ends = [value("x", ["batch", 2, 8, 8]), value("probabilities", ["batch", 27])]
    return graphs.model(nodes, ends[:1], ends[1:], weights)


def _graph(rng: random.Random, model: onnx.ModelProto) -> Any:
    return rng.choice(list(graph_walk.graphs(model)))


def _node(rng: random.Random, model: onnx.ModelProto) -> Any:
    return rng.choice(list(_graph(rng, model).node))


def tensor_dims(rng: random.Random, model: onnx.ModelProto) -> None:
    tensor = rng.choice(list(model.graph.initializer) or [model.graph.initializer.add()])
    dims = list(tensor.dims) or [1]
    dims[rng.randrange(len(dims))] = rng.choice(NUMBERS)
    tensor.dims[:] = dims


def tensor_type(rng: random.Random, model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer[:1]:
        tensor.data_type = rng.randrange(32)


def tensor_values(rng: random.Random, model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        size = len(tensor.raw_data) // 4
        tensor.raw_data = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\xff\x7f", b"\1\0\0\0")) * size


def tensor_outside(rng: random.Random, model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer[:1]:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=rng.choice(("/dev/zero", "/etc/passwd", "../x", "gone", ".")))
        tensor.external_data.add(key="length", value=str(rng.choice(NUMBERS)))


def value_shape(rng: random.Random, model: onnx.ModelProto) -> None:
    values = [*model.graph.input, *model.graph.output]
    for dimension in rng.choice(values).type.tensor_type.shape.dim:
        dimension.dim_value = rng.choice(NUMBERS)


def value_type(rng: random.Random, model: onnx.ModelProto) -> None:
    rng.choice([*model.graph.input, *model.graph.output]).type.tensor_type.elem_type = rng.randrange(32)


def value_rank(rng: random.Random, model: onnx.ModelProto) -> None:
    shape = model.graph.input[0].type.tensor_type.shape
    for _ in range(rng.choice((1, 8, 60))):
        shape.dim.add(dim_value=rng.choice((1, 2, 2**40)))


def operator(rng: random.Random, model: onnx.ModelProto) -> None:
    _node(rng, model).op_type = rng.choice(OPERATORS)


def domain(rng: random.Random, model: onnx.ModelProto) -> None:
    _node(rng, model).domain = rng.choice(("com.microsoft", "ai.onnx.ml", "com.acme", "\0"))


def attribute(rng: random.Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    numbers = [rng.choice(NUMBERS) for _ in range(rng.choice((0, 1, 2, 4)))]
    name = rng.choice([item.name for item in node.attribute] or ["axis", "perm", "to", "kernel_shape", "group"])
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    made: Any = rng.choice((numbers or [1], rng.choice(NUMBERS), "text", 1e30, [0.5]))
    node.attribute.append(helper.make_attribute(name, made))


def wires(rng: random.Random, model: onnx.ModelProto) -> None:
    graph = _graph(rng, model)
    names = [name for node in graph.node for name in (*node.input, *node.output)] + ["ghost", ""]
    node = rng.choice(list(graph.node))
    side = node.input if node.input and rng.random() < 0.7 else node.output
    side[rng.randrange(len(side))] = rng.choice(names)


def names(rng: random.Random, model: onnx.ModelProto) -> None:
    graph = _graph(rng, model)
    rng.choice([*graph.node, *graph.initializer, *graph.input, *graph.output]).name = rng.choice(NAMES)


def twice(rng: random.Random, model: onnx.ModelProto) -> None:
    graph = _graph(rng, model)
    repeated = rng.choice([field for field in (graph.node, graph.initializer, graph.input, graph.output) if len(field)])
    repeated.add().CopyFrom(repeated[rng.randrange(len(repeated) - 1) if len(repeated) > 1 else 0])


def missing(rng: random.Random, model: onnx.ModelProto) -> None:
    graph = _graph(rng, model)
    repeated = rng.choice([field for field in (graph.node, graph.initializer, graph.input, graph.output) if len(field)])
    del repeated[rng.randrange(len(repeated))]


def swapped(rng: random.Random, model: onnx.ModelProto) -> None:
    nodes = list(_graph(rng, model).node)
    if len(nodes) > 1:
        one, other = rng.sample(nodes, 2)
        kept = type(one)()
        kept.CopyFrom(one)
        one.CopyFrom(other)
        other.CopyFrom(kept)


def versions(rng: random.Random, model: onnx.ModelProto) -> None:
    model.opset_import[0].version = rng.choice((*NUMBERS[:8], 5, 8, 10, 12, 15, 20, 24, 99))
    if rng.random() < 0.5:
        model.ir_version = rng.choice((*NUMBERS, 3, 4, 8, 11))


def nested(rng: random.Random, model: onnx.ModelProto) -> None:
    inner = helper.make_node("Relu", ["x"], ["deep0"])
    for depth in range(rng.choice((2, 8, 16))):  # protobuf itself ends at a depth of 100 messages
        made = helper.make_graph([inner], f"g{depth}", [], [value(f"deep{depth}", None)])
        other = helper.make_graph([helper.make_node("Relu", ["x"], [f"e{depth}"])], "e", [], [value(f"e{depth}", None)])
        inner = helper.make_node("If", ["condition"], [f"deep{depth + 1}"], then_branch=made, else_branch=other)
    model.graph.initializer.append(array("condition", np.array(True)))
    model.graph.node.insert(0, inner)


def shapes_of_shapes(rng: random.Random, model: onnx.ModelProto) -> None:
    """An operator that makes a tensor of any size from a few numbers."""
    sizes = np.array([rng.choice(NUMBERS[:13]) for _ in range(rng.choice((1, 2, 3)))], np.int64)
    model.graph.initializer.append(array("sizes", sizes))
    kind = rng.choice(("ConstantOfShape", "Expand", "Tile", "Reshape"))
    inputs = ["sizes"] if kind == "ConstantOfShape" else ["x", "sizes"]
    model.graph.node.insert(0, helper.make_node(kind, inputs, ["made"]))
    model.graph.output.append(value("made", [f"d{i}" for i in range(len(sizes))]))


def typed_attribute(rng: random.Random, model: onnx.ModelProto) -> None:
    """An attribute keeps its type and gets another value."""
    attributes = [item for node in _graph(rng, model).node for item in node.attribute]
    if not attributes:
        return
    chosen = rng.choice(attributes)
    chosen.i = rng.choice(NUMBERS)
    chosen.f = rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
    for place in range(len(chosen.ints)):
        if rng.random() < 0.5:
            chosen.ints[place] = rng.choice(NUMBERS)


def indexes(rng: random.Random, model: onnx.ModelProto) -> None:
    """Shapes, axes and the like keep their type and size and get other values."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.INT64:
            tensor.raw_data = b"".join(
                rng.choice(NUMBERS).to_bytes(8, "little", signed=True) for _ in range(len(tensor.raw_data) // 8)
            )


def inserted(rng: random.Random, model: onnx.ModelProto) -> None:
    """One more operator over an input, well formed but for its numbers; its largest value is one more output."""
    number = len(model.graph.node)
    kind, rank, constants, attributes = rng.choice(INSERTED)
    start = next((item.name for item in model.graph.input if item.type.tensor_type.elem_type == TensorProto.FLOAT), "x")
    shape = [rng.choice((1, 1, 2, 4)) for _ in range(rank - 1)] + [-1]
    model.graph.initializer.append(array(f"as{number}", np.array(shape, np.int64)))
    inputs = [f"in{number}"]
    for place, make in enumerate(constants):
        model.graph.initializer.append(array(f"c{number}_{place}", make(rng)))
        inputs.append(f"c{number}_{place}")
    if model.ir_version < 4:  # each weight is an input too
        added = model.graph.initializer[-len(constants) - 1 :]
        model.graph.input.extend(value(item.name, list(item.dims), item.data_type) for item in added)
    made = {name: make(rng) for name, make in attributes.items()}
    model.graph.node.extend(
        [
            helper.make_node("Reshape", [start, f"as{number}"], [f"in{number}"]),
            helper.make_node(kind, inputs, [f"made{number}", *(["rest"] if kind in TWO_OUTPUTS else [])], **made),
            helper.make_node("Cast", [f"made{number}"], [f"cast{number}"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", [f"cast{number}"], [f"max{number}"], keepdims=0),
        ]
    )
    model.graph.output.append(value(f"max{number}", []))


def _some(count: int) -> Callable[[random.Random], list[int]]:
    return lambda rng: [rng.choice((0, 0, 1, 1, 1, 2, 3, -1, *NUMBERS)) for _ in range(count)]


def _one(rng: random.Random) -> int:
    return rng.choice((0, 1, 1, 2, -1, *NUMBERS))


def _real(rng: random.Random) -> float:
    return rng.choice((0.0, 0.5, -1.0, 1e-30, 1e38, float("inf")))


def wholes(*shape: int) -> Callable[[random.Random], np.ndarray]:
    """Makes int64 of a shape."""
    size = int(np.prod(shape))
    return lambda rng: np.array(_some(size)(rng), np.int64).reshape(shape)


def reals(*shape: int) -> Callable[[random.Random], np.ndarray]:
    """Makes float32 of a shape."""
    size = int(np.prod(shape))
    return lambda rng: np.array([_real(rng) for _ in range(size)], np.float32).reshape(shape)


TWO_OUTPUTS: Final = {"TopK", "Split"}
# Operator, rank of its first input, what its further inputs hold, its attributes.
INSERTED: Final[tuple[tuple[str, int, tuple[Any, ...], dict[str, Any]], ...]] = (
    ("Transpose", 3, (), {"perm": _some(3)}), ("Flatten", 3, (), {"axis": _one}), ("Softmax", 2, (), {"axis": _one}),
    ("Slice", 2, (wholes(2), wholes(2), wholes(2), wholes(2)), {}), ("Tile", 2, (wholes(2),), {}),
    ("Pad", 2, (wholes(4),), {"mode": lambda rng: rng.choice(("constant", "reflect", "edge", "wrap"))}),
    ("Expand", 2, (wholes(2),), {}), ("Reshape", 2, (wholes(3),), {"allowzero": lambda rng: rng.choice((0, 1))}),
    ("Gather", 2, (wholes(3),), {"axis": _one}), ("GatherND", 2, (wholes(1, 2),), {"batch_dims": _one}),
    ("GatherElements", 2, (wholes(2, 2),), {"axis": _one}), ("TopK", 2, (wholes(1),), {"axis": _one}),
    ("CumSum", 2, (wholes(),), {"reverse": lambda rng: rng.choice((0, 1))}), ("Unsqueeze", 2, (wholes(2),), {}),
    ("Squeeze", 3, (wholes(1),), {}), ("Split", 2, (wholes(1),), {"axis": _one}), ("Trilu", 2, (wholes(),), {}),
    ("ScatterND", 2, (wholes(1, 2), reals(1)), {}), ("ScatterElements", 2, (wholes(1, 1), reals(1, 1)), {"axis": _one}),
    ("ReduceSum", 3, (wholes(2),), {"noop_with_empty_axes": lambda rng: rng.choice((0, 1))}),
    ("Conv", 4, (reals(1, 1, 1, 1),), {"kernel_shape": _some(2), "pads": _some(4), "strides": _some(2)}),
    ("Conv", 4, (reals(2, 1, 1, 1),), {"dilations": _some(2), "group": _one}),
    ("ConvTranspose", 4, (reals(1, 1, 1, 1),), {"output_padding": _some(2), "strides": _some(2), "pads": _some(4)}),
    ("ConvTranspose", 4, (reals(1, 1, 1, 1),), {"output_shape": _some(2)}),
    ("MaxPool", 4, (), {"kernel_shape": _some(2), "pads": _some(4), "strides": _some(2)}),
    ("MaxPool", 4, (), {"kernel_shape": lambda rng: [1, 1], "dilations": _some(2), "ceil_mode": _one}),
    ("AveragePool", 4, (), {"kernel_shape": _some(2), "pads": _some(4), "count_include_pad": _one}),
    ("LpPool", 4, (), {"kernel_shape": _some(2), "p": _one}), ("LRN", 4, (), {"size": _one, "bias": _real}),
    ("Resize", 2, (reals(1), reals(2)), {"mode": lambda rng: rng.choice(("nearest", "linear", "cubic"))}),
    ("Upsample", 2, (reals(2),), {}), ("DepthToSpace", 4, (), {"blocksize": _one}),
    ("SpaceToDepth", 4, (), {"blocksize": _one}), ("Cast", 2, (), {"to": lambda rng: rng.randrange(28)}),
    ("EyeLike", 2, (), {"k": _one}), ("RandomUniformLike", 2, (), {"low": _real, "high": _real}),
    ("InstanceNormalization", 3, (reals(1), reals(1)), {"epsilon": _real}), ("Hardmax", 2, (), {"axis": _one}),
    ("LayerNormalization", 2, (reals(1),), {"axis": _one}), ("Einsum", 2, (), {"equation": lambda rng: rng.choice(
        ("ij->ji", "ii->i", "ij->", "...->...", "ij,jk->ik", "i" * 300, "->"))}),
    ("Shrink", 2, (), {"lambd": _real, "bias": _real}), ("Clip", 2, (reals(), reals()), {}), ("Det", 3, (), {}),
    ("NonZero", 2, (), {}), ("Compress", 2, (lambda rng: np.array([True, False, True]),), {"axis": _one}),
    ("ReverseSequence", 2, (wholes(1),), {"batch_axis": _one, "time_axis": _one}),
    ("Mod", 2, (reals(1),), {"fmod": _one}),
    ("QuantizeLinear", 2, (reals(1), lambda rng: np.array([0], np.uint8)), {"axis": _one}), ("Gelu", 2, (), {}),
    ("DFT", 3, (wholes(),), {"onesided": _one}), ("MelWeightMatrix", 2, (), {}), ("IsInf", 2, (), {}),
    ("GroupNormalization", 3, (reals(1), reals(1)), {"num_groups": _one}), ("GridSample", 4, (reals(1, 1, 1, 2),), {}),
    ("RoiAlign", 4, (reals(1, 4), wholes(1)), {"output_height": _one, "sampling_ratio": _one}),
    ("MaxRoiPool", 4, (reals(1, 5),), {"pooled_shape": _some(2)}), ("Col2Im", 3, (wholes(2), wholes(2)), {}),
    ("LSTM", 3, (reals(1, 4, 4), reals(1, 4, 1)), {"hidden_size": _one}),
    ("GRU", 3, (reals(1, 3, 4), reals(1, 3, 1)), {"hidden_size": _one, "linear_before_reset": _one}),
)  # fmt: skip


def recursive(rng: random.Random, model: onnx.ModelProto) -> None:
    """A local function that calls itself, or another that calls it."""
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("again", 1)]
    for name, called in (("One", "Two"), ("Two", "One")):
        body = [helper.make_node(called, ["a"], ["b"], domain="again")]
        model.functions.append(helper.make_function("again", name, ["a"], ["b"], body, imports))
    model.opset_import.append(helper.make_opsetid("again", 1))
    model.ir_version = 8
    model.graph.node.append(helper.make_node("One", ["x"], ["recursion"], domain="again"))


STRUCTURES: Final[tuple[Callable[[random.Random, onnx.ModelProto], None], ...]] = (
    tensor_dims, tensor_type, tensor_values, tensor_outside, value_shape, value_type, value_rank, operator, domain,
    attribute, typed_attribute, typed_attribute, wires, names, twice, missing, swapped, versions, nested,
    shapes_of_shapes, recursive, indexes, indexes, *[inserted] * 16,
)  # fmt: skip
