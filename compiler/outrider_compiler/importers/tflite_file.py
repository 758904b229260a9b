"""LiteRT files (`.tflite`): looked through in Python before the native parser sees them.

1. The identifier, every index, every shape and every buffer is checked; claimed counts must fit into the file.
2. Buffers outside the file are refused: a `.tflite` source is one file.
3. The parent takes the bytes that a child (`probe`) has looked through, loaded and run once; they ship as they are.
"""

from __future__ import annotations

import importlib.util
import math
import struct
from dataclasses import dataclass
from typing import Any, Final

from outrider_compiler.errors import SourceError
from outrider_protocol import limits

IDENTIFIER: Final = b"TFL3"
VERSION: Final = 3
ENGINE: Final = "ai_edge_litert"
EXPORT_AGAIN: Final = "The file is damaged or no LiteRT model: export it again."
ITEM_BYTES: Final = {
    "FLOAT32": 4, "FLOAT16": 2, "BFLOAT16": 2, "FLOAT64": 8, "INT8": 1, "UINT8": 1, "INT16": 2, "UINT16": 2,
    "INT32": 4, "UINT32": 4, "INT64": 8, "UINT64": 8, "BOOL": 1, "COMPLEX64": 8, "COMPLEX128": 16,
}  # fmt: skip
CUSTOM: Final = "custom:"
FLOATS: Final = {"FLOAT32": "<f4", "FLOAT16": "<f2", "FLOAT64": "<f8"}


@dataclass(frozen=True)
class TensorInfo:
    """`kind` is the schema's word ("FLOAT32"); `zero_points` is empty where the tensor is not quantized.

    `size_bytes` is that of a constant's values, 0 for what is computed.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    zero_points: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True)
class Described:
    """`operators` are (name, name of the first output); a custom one's name begins with `CUSTOM`."""

    operators: tuple[tuple[str, str], ...]
    tensors: tuple[TensorInfo, ...]
    inputs: tuple[TensorInfo, ...]


def require_engine() -> None:
    """Raise `SourceError` where LiteRT is not installed."""
    if importlib.util.find_spec(ENGINE) is None:
        raise SourceError(
            ".tflite needs LiteRT, which is not installed", "pip install 'outrider-compiler[litert]' brings it."
        )


def describe(data: bytes, what: str) -> Described:
    """Look through a file; raises `SourceError` that names the tensor."""
    from ai_edge_litert import schema_py_generated as schema

    if data[4:8] != IDENTIFIER:
        raise SourceError(f"{what}: not a LiteRT file", EXPORT_AGAIN)
    try:
        return _Reader(schema, data).read()
    except SourceError as error:
        raise SourceError(f"{what}: {error}", error.hint) from error
    except (struct.error, IndexError, TypeError, ValueError, AssertionError, OverflowError) as error:
        raise SourceError(f"{what}: an offset leads out of the file", EXPORT_AGAIN) from error


class _Reader:
    """One look through; every method raises `SourceError` or what a read out of bounds raises."""

    def __init__(self, schema: Any, data: bytes) -> None:
        self.schema, self.data = schema, data
        self.kinds = _words(schema.TensorType)
        self.model = schema.Model.GetRootAs(data, 0)

    def read(self) -> Described:
        model = self.model
        if model.Version() != VERSION:
            raise SourceError(f"version {model.Version()} of the format, {VERSION} is read", EXPORT_AGAIN)
        if model.ExternalBuffersLength() or model.ExternalBufferGroupsLength():
            raise SourceError("holds buffers outside the file", "Export the model as one file.")
        self.buffers = [model.Buffers(i) for i in range(self._count(model.BuffersLength()))]
        self.codes = [self._code(model.OperatorCodes(i)) for i in range(self._count(model.OperatorCodesLength()))]
        graphs = [model.Subgraphs(i) for i in range(self._count(model.SubgraphsLength()))]
        if not graphs:
            raise SourceError("holds no graph", EXPORT_AGAIN)
        read = [self._graph(graph) for graph in graphs]
        operators = tuple(item for found, _ in read for item in found)
        tensors = tuple(item for _, found in read for item in found)
        main = [read[0][1][graphs[0].Inputs(i)] for i in range(graphs[0].InputsLength())]
        return Described(operators, tensors, tuple(main))

    def _count(self, number: int) -> int:
        if number > len(self.data) // 4:
            raise SourceError(f"claims {number} entries in {len(self.data)} bytes", EXPORT_AGAIN)
        return int(number)

    def _code(self, code: Any) -> str:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _words(self.schema.BuiltinOperator).get(number)
        if name is None:
            raise SourceError(f"holds the unknown operator {number}", EXPORT_AGAIN)
        return f"{CUSTOM}{_text(code.CustomCode())}" if name == "CUSTOM" else name

    def _graph(self, graph: Any) -> tuple[list[tuple[str, str]], list[TensorInfo]]:
        tensors = [self._tensor(graph.Tensors(i)) for i in range(self._count(graph.TensorsLength()))]
        for length, item in ((graph.InputsLength(), graph.Inputs), (graph.OutputsLength(), graph.Outputs)):
            for i in range(self._count(length)):
                self._check_index(item(i), tensors, optional=False)
        return [
            self._operator(graph.Operators(i), tensors) for i in range(self._count(graph.OperatorsLength()))
        ], tensors

    def _operator(self, operator: Any, tensors: list[TensorInfo]) -> tuple[str, str]:
        if not 0 <= operator.OpcodeIndex() < len(self.codes):
            raise SourceError(f"an operator has the code {operator.OpcodeIndex()}", EXPORT_AGAIN)
        for i in range(self._count(operator.InputsLength())):
            self._check_index(operator.Inputs(i), tensors, optional=True)
        outputs = [int(operator.Outputs(i)) for i in range(self._count(operator.OutputsLength()))]
        for index in outputs:
            self._check_index(index, tensors, optional=False)
        return self.codes[operator.OpcodeIndex()], tensors[outputs[0]].name if outputs else ""

    def _check_index(self, index: int, tensors: list[TensorInfo], *, optional: bool) -> None:
        if not (-1 if optional else 0) <= index < len(tensors):
            raise SourceError(f"an operator or graph names tensor {index} of {len(tensors)}", EXPORT_AGAIN)

    def _tensor(self, tensor: Any) -> TensorInfo:
        name, kind = _text(tensor.Name()), self.kinds.get(tensor.Type(), "")
        shape = tuple(int(tensor.Shape(i)) for i in range(self._count(tensor.ShapeLength())))
        if not kind or any(size < 0 for size in shape):
            raise SourceError(f"tensor {name!r} has type {tensor.Type()} and shape {list(shape)[:8]}", EXPORT_AGAIN)
        if not 0 <= tensor.Buffer() < len(self.buffers):
            raise SourceError(f"tensor {name!r} has no buffer {tensor.Buffer()}", EXPORT_AGAIN)
        size = math.prod(shape) * ITEM_BYTES.get(kind, 0)
        if size > limits.LAYER_BYTES:
            raise SourceError(f"tensor {name!r} has {size} bytes, {limits.LAYER_BYTES} are allowed", EXPORT_AGAIN)
        values = self._values(name, self.buffers[tensor.Buffer()])
        if values and tensor.Sparsity() is None:
            _check_values(name, kind, size, values)
        return TensorInfo(name, kind, shape, self._zero_points(tensor.Quantization()), len(values))

    def _values(self, name: str, buffer: Any) -> bytes:
        start, length = buffer.Offset(), buffer.Size()
        if start <= 1 and length <= 1:  # the values stand inside the tables
            return bytes(buffer.DataAsNumpy().tobytes()) if buffer.DataLength() else b""
        if start + length > len(self.data):
            raise SourceError(f"tensor {name!r}: its values lie outside the file", EXPORT_AGAIN)
        return self.data[start : start + length]

    def _zero_points(self, quantization: Any) -> tuple[int, ...]:
        if quantization is None or not quantization.ScaleLength():
            return ()
        return tuple(int(quantization.ZeroPoint(i)) for i in range(self._count(quantization.ZeroPointLength())))


def _check_values(name: str, kind: str, size: int, values: bytes) -> None:
    import numpy as np

    if kind in ITEM_BYTES and len(values) != size:
        raise SourceError(f"tensor {name!r} needs {size} bytes of values, {len(values)} are there", EXPORT_AGAIN)
    if kind in FLOATS and size > ITEM_BYTES[kind] and np.isnan(np.frombuffer(values, FLOATS[kind])).any():
        raise SourceError(f"tensor {name!r} holds NaN", "Train it again: it diverged.")


def _words(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _text(value: bytes | None) -> str:
    try:
        return (value or b"").decode("utf-8")[:200]
    except UnicodeDecodeError as error:
        raise SourceError("holds a name that is not UTF-8", EXPORT_AGAIN) from error
