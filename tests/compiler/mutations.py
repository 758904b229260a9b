"""Seeded damage: the same seed and number give the same file, so that a finding can be made again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.compiler import graphs
from tests.compiler.graphs import array, value

NUMBERS: Final = (0, 1, -1, 2, 7, 255, -128, 2**16, 2**31 - 1, -(2**31), 2**32, 2**40, 2**62, 2**63 - 1, -(2**63))
NAMES: Final = ("", "x", "y", "w1", "\0", "a\nb", "\x1b[31m", "ü" * 3, "../up", "%s%n", "n" * 5000)
OPERATORS: Final = (
    "Relu", "Conv", "Reshape", "Loop", "If", "Scan", "Gather", "Resize", "TopK", "Expand", "Tile", "Pad", "Slice",
    "Concat", "Einsum", "LSTM", "ConvTranspose", "MaxPool", "NonZero", "Range", "DFT", "OneHot", "ScatterND",
    "QuantizeLinear", "ConstantOfShape", "Nonsense",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A damaged file: `name` says seed, number and the kind of damage."""

    name: str
    suffix: str
    data: bytes


def mutants(seed: int, count: int, *, litert: bool) -> list[Mutant]:
    """`count` damaged models, a third of them `.tflite` where LiteRT is there."""
    sources = onnx_sources()
    files = [graphs.tflite(), graphs.tflite(zero_point=3), graphs.tflite(custom="Acme")] if litert else []
    return [_mutant(random.Random(f"{seed}-{i}"), f"{seed}-{i}", sources, files) for i in range(count)]


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


def _mutant(rng: random.Random, name: str, sources: list[onnx.ModelProto], files: list[bytes]) -> Mutant:
    if files and rng.random() < 1 / 3:
        data = rng.choice(files)
        if rng.random() < 0.5:
            change = rng.choice(LITERT)
            return Mutant(f"{name}-{change.__name__}", ".tflite", change(rng, data))
        return _bytes(rng, name, ".tflite", data, rng.choice(files))
    model = type(sources[0])()
    model.CopyFrom(rng.choice(sources))
    if rng.random() < 0.4:
        return _bytes(rng, name, ".onnx", model.SerializeToString(), rng.choice(sources).SerializeToString())
    changes = [rng.choice(STRUCTURES) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    for change in changes:
        change(rng, model)
    return Mutant(f"{name}-{'-'.join(item.__name__ for item in changes)}", ".onnx", model.SerializeToString())


def _bytes(rng: random.Random, name: str, suffix: str, data: bytes, other: bytes) -> Mutant:
    change = rng.choice(BYTES)
    return Mutant(f"{name}-{change.__name__}", suffix, change(rng, data, other))


def damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    """Any file with any damage to its bytes."""
    return rng.choice(BYTES)(rng, data, data[::-1])


# ---- bytes


def flip(rng: random.Random, data: bytes, other: bytes) -> bytes:
    made = bytearray(data)
    for _ in range(rng.choice((1, 2, 5, 20, 100))):
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def cut(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def insert(rng: random.Random, data: bytes, other: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + rng.randbytes(rng.choice((1, 4, 50))) + data[place:]


def leave_out(rng: random.Random, data: bytes, other: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + data[place + rng.choice((1, 4, 50)) :]


def overwrite(rng: random.Random, data: bytes, other: bytes) -> bytes:
    place = rng.randrange(len(data))
    filler = rng.choice((b"\xff", b"\0", b"\x80", b"\x7f")) * rng.choice((1, 4, 8))
    return data[:place] + filler + data[place + len(filler) :]


def noise(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return rng.choice((b"", data[:8], data[:40])) + rng.randbytes(rng.choice((0, 1, 30, 3000)))


def deep(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Graphs in attributes of nodes in graphs, thousands deep, as protobuf writes them."""
    made = b""
    for _ in range(rng.choice((20, 200, 3000))):
        for field in (6, 5, 1):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            made = bytes([field << 3 | 2]) + _varint(len(made)) + made
    return b"\x08\x08" + bytes([7 << 3 | 2]) + _varint(len(made)) + made


def _varint(number: int) -> bytes:
    made = b""
    while number > 127:
        made, number = made + bytes([number & 127 | 128]), number >> 7
    return made + bytes([number])


BYTES: Final = (flip, flip, cut, splice, insert, leave_out, overwrite, overwrite, noise, deep)

# ---- ONNX


def _graph(rng: random.Random, model: onnx.ModelProto) -> Any:
    from outrider_compiler import graph_walk

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
    model.graph.output.append(value("made", None))


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
    attribute, attribute, wires, wires, names, twice, missing, swapped, versions, nested, shapes_of_shapes, recursive,
)  # fmt: skip

# ---- LiteRT


def _unpacked(data: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(data)


def _packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def litert_shape(rng: random.Random, data: bytes) -> bytes:
    model = _unpacked(data)
    tensor = rng.choice(model.subgraphs[0].tensors)
    tensor.shape = [rng.choice([n for n in NUMBERS if -(2**31) <= n < 2**31]) for _ in range(rng.choice((0, 1, 2, 9)))]
    return _packed(model)


def litert_type(rng: random.Random, data: bytes) -> bytes:
    model = _unpacked(data)
    rng.choice(model.subgraphs[0].tensors).type = rng.randrange(24)
    return _packed(model)


def litert_index(rng: random.Random, data: bytes) -> bytes:
    model = _unpacked(data)
    graph = model.subgraphs[0]
    holder, field = rng.choice([(graph, "inputs"), (graph, "outputs"), *((item, "inputs") for item in graph.operators)])
    indexes = list(getattr(holder, field))
    indexes[rng.randrange(len(indexes))] = rng.choice((-1, -2, 0, 1, 2, 3, 4, 99, 2**31 - 1, -(2**31)))
    setattr(holder, field, indexes)
    return _packed(model)


def litert_operator(rng: random.Random, data: bytes) -> bytes:
    model = _unpacked(data)
    code = rng.choice(model.operatorCodes)
    code.builtinCode = rng.choice((rng.randrange(210), 99999))
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), rng.choice((1, 2, 5, 99))
    return _packed(model)


def litert_options(rng: random.Random, data: bytes) -> bytes:
    model = _unpacked(data)
    operator = rng.choice(model.subgraphs[0].operators)
    operator.builtinOptions, operator.builtinOptionsType = None, rng.choice((0, operator.builtinOptionsType))
    operator.opcodeIndex = rng.choice((0, 1, 2, 99))
    return _packed(model)


def litert_buffer(rng: random.Random, data: bytes) -> bytes:
    model = _unpacked(data)
    if rng.random() < 0.5:
        rng.choice(model.subgraphs[0].tensors).buffer = rng.choice((0, 1, 2, 99, 2**32 - 1))
    else:
        size = rng.choice((0, 1, 47, 49, 4096))
        model.buffers[1].data = np.frombuffer(rng.randbytes(size), np.uint8)
    if rng.random() < 0.3:
        model.buffers[1].offset, model.buffers[1].size = rng.choice((2, 700, 2**40)), rng.choice((48, 2**40))
    return _packed(model)


LITERT: Final[tuple[Callable[[random.Random, bytes], bytes], ...]] = (
    litert_shape, litert_type, litert_index, litert_operator, litert_options, litert_buffer,
)  # fmt: skip
