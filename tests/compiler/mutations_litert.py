"""Damage to what stands in a .tflite file: from wrong numbers to files of one operator with extreme ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from tests.compiler import graphs
from tests.compiler.mutations_onnx import NUMBERS, reals, wholes


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


def litert_inserted(rng: random.Random, data: bytes) -> bytes:
    """A file of one operator, well formed but for its numbers."""
    from ai_edge_litert import schema_py_generated as schema

    kind, rank, constants, options = rng.choice(LITERT_INSERTED)
    shape = [1, *(rng.choice((1, 2, 4)) for _ in range(rank - 1))]
    tensors, buffers = [graphs.tensor(schema, "in", shape, 0)], [schema.BufferT()]
    for place, make in enumerate(constants):
        values = make(rng)
        number = schema.TensorType.FLOAT32 if values.dtype == np.float32 else schema.TensorType.INT32
        tensors.append(graphs.tensor(schema, f"c{place}", list(values.shape), len(buffers), number))
        buffers.append(schema.BufferT())
        buffers[-1].data = np.frombuffer(values.tobytes(), np.uint8)
    tensors.append(graphs.tensor(schema, "out", [rng.choice((1, 2, 4)) for _ in range(rank)], 0))
    operator = graphs.operator(schema, 0, list(range(len(tensors) - 1)), [len(tensors) - 1])
    if options is not None:
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
        operator.builtinOptions = getattr(schema, f"{options}T")()
        for field, was in list(vars(operator.builtinOptions).items()):
            if isinstance(was, (int, float)) and not isinstance(was, bool):
                setattr(operator.builtinOptions, field, rng.choice((was, 0, 1, 1, 2, 127)))
    code = graphs.code(schema, getattr(schema.BuiltinOperator, kind), "")
    return graphs.packed(schema, [code], tensors, [operator], buffers)


def _int32(*shape: int) -> Callable[[random.Random], np.ndarray]:
    return lambda rng: np.clip(wholes(*shape)(rng), -(2**31), 2**31 - 1).astype(np.int32)


LITERT_INSERTED: Final[tuple[tuple[str, int, tuple[Any, ...], str | None], ...]] = (
    ("RESHAPE", 2, (_int32(2),), "ReshapeOptions"), ("PAD", 2, (_int32(2, 2),), "PadOptions"),
    ("TILE", 2, (_int32(2),), "TileOptions"), ("TRANSPOSE", 3, (_int32(3),), "TransposeOptions"),
    ("MEAN", 3, (_int32(2),), "ReducerOptions"), ("SUM", 3, (_int32(1),), "ReducerOptions"),
    ("GATHER", 2, (_int32(3),), "GatherOptions"), ("GATHER_ND", 2, (_int32(1, 2),), "GatherNdOptions"),
    ("STRIDED_SLICE", 2, (_int32(2), _int32(2), _int32(2)), "StridedSliceOptions"),
    ("SLICE", 2, (_int32(2), _int32(2)), "SliceOptions"), ("EXPAND_DIMS", 2, (_int32(),), "ExpandDimsOptions"),
    ("SQUEEZE", 3, (), "SqueezeOptions"), ("SOFTMAX", 2, (), "SoftmaxOptions"),
    ("TOPK_V2", 2, (_int32(),), "TopKV2Options"),
    ("CONV_2D", 4, (reals(1, 1, 1, 1), reals(1)), "Conv2DOptions"), ("NEG", 2, (), "NegOptions"),
    ("DEPTHWISE_CONV_2D", 4, (reals(1, 1, 1, 2), reals(2)), "DepthwiseConv2DOptions"),
    ("MAX_POOL_2D", 4, (), "Pool2DOptions"), ("AVERAGE_POOL_2D", 4, (), "Pool2DOptions"),
    ("RESIZE_BILINEAR", 4, (_int32(2),), "ResizeBilinearOptions"), ("DEPTH_TO_SPACE", 4, (), "DepthToSpaceOptions"),
    ("SPACE_TO_DEPTH", 4, (), "SpaceToDepthOptions"), ("SPACE_TO_BATCH_ND", 4, (_int32(2), _int32(2, 2)), None),
    ("BATCH_TO_SPACE_ND", 4, (_int32(2), _int32(2, 2)), None), ("BROADCAST_TO", 2, (_int32(2),), "BroadcastToOptions"),
    ("FULLY_CONNECTED", 2, (reals(2, 2), reals(2)), "FullyConnectedOptions"),
    ("CUMSUM", 2, (_int32(),), "CumsumOptions"),
    ("ONE_HOT", 2, (_int32(), reals(), reals()), "OneHotOptions"), ("REVERSE_V2", 2, (_int32(1),), "ReverseV2Options"),
    ("ARG_MAX", 2, (_int32(),), "ArgMaxOptions"), ("SEGMENT_SUM", 2, (_int32(1),), "SegmentSumOptions"),
    ("FILL", 1, (reals(),), "FillOptions"), ("MIRROR_PAD", 2, (_int32(2, 2),), "MirrorPadOptions"),
    ("L2_NORMALIZATION", 2, (), "L2NormOptions"), ("LOCAL_RESPONSE_NORMALIZATION", 4, (), None),
    ("TRANSPOSE_CONV", 4, (reals(1, 1, 1, 1), reals(1, 1, 1, 1)), "TransposeConvOptions"),
    ("RANK", 2, (), "RankOptions"),
    ("SCATTER_ND", 2, (reals(1), _int32(2)), "ScatterNdOptions"), ("WHERE", 2, (), "WhereOptions"),
    ("BATCH_MATMUL", 3, (reals(1, 2, 2),), "BatchMatMulOptions"), ("EMBEDDING_LOOKUP", 2, (reals(2, 2),), None),
)  # fmt: skip
LITERT: Final[tuple[Callable[[random.Random, bytes], bytes], ...]] = (
    litert_shape, litert_type, litert_index, litert_operator, litert_options, litert_buffer, *[litert_inserted] * 6,
)  # fmt: skip
