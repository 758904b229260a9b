"""What an ONNX file must say of itself before any native parser computes with it; all sizes are Python integers.

1. Versions are ones that this compiler reads.
2. Every tensor has a known type, dimensions that are not negative, and exactly the values that its shape promises.
3. No name is given twice among a graph's initializers, no dimension of an input or output is negative.
4. No weight is NaN; a lone NaN may be meant.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler import graph_walk
from outrider_compiler.errors import SourceError
from outrider_protocol import limits

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

OPSET_MIN: Final = 8
IR_MIN: Final = 3
EXPORT_AGAIN: Final = "The file is damaged or no valid ONNX: export it again."
VALUE_FIELDS: Final = (
    "raw_data",
    "float_data",
    "int32_data",
    "string_data",
    "int64_data",
    "double_data",
    "uint64_data",
)


def check_versions(model: ModelProto) -> None:
    """Raise `SourceError` for versions that are not read here."""
    import onnx

    if not model.HasField("graph"):
        raise SourceError("holds no graph", EXPORT_AGAIN)
    if not IR_MIN <= model.ir_version <= onnx.IR_VERSION:
        raise SourceError(
            f"IR version {model.ir_version}: {IR_MIN} to {onnx.IR_VERSION} are read", "Export it with another onnx."
        )
    versions = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if not versions or not OPSET_MIN <= max(versions) <= newest:
        said = f"opset {max(versions)}" if versions else "no opset of the standard operators"
        raise SourceError(f"{said}: {OPSET_MIN} to {newest} are read", f"Export it with opset {OPSET_MIN} to {newest}.")


def check(model: ModelProto) -> None:
    """Raise `SourceError` that names the tensor or value."""
    for graph in graph_walk.graphs(model):
        _check_names(graph)
    for tensor in graph_walk.tensors(model):
        _check_values(tensor)


def size_bytes(tensor: TensorProto) -> int:
    """Bytes that the tensor's shape and type promise; raises `SourceError`."""
    import onnx

    if tensor.data_type not in onnx.TensorProto.DataType.values() or not tensor.data_type:
        raise SourceError(f"tensor {tensor.name!r} has the unknown type {tensor.data_type}", EXPORT_AGAIN)
    if any(dimension < 0 for dimension in tensor.dims):
        raise SourceError(f"tensor {tensor.name!r} has the shape {_shape(tensor)}", EXPORT_AGAIN)
    if tensor.data_type == onnx.TensorProto.STRING:
        return 0
    size = (math.prod(int(n) for n in tensor.dims) * _bits(tensor.data_type) + 7) // 8
    if size > limits.LAYER_BYTES:
        raise SourceError(
            f"tensor {tensor.name!r} of shape {_shape(tensor)} has {size} bytes, {limits.LAYER_BYTES} are allowed",
            "Use a smaller model.",
        )
    return size


def _check_names(graph: GraphProto) -> None:
    seen: set[str] = set()
    for tensor in graph.initializer:
        if tensor.name in seen or not tensor.name:
            raise SourceError(f"two tensors have the name {tensor.name!r}", EXPORT_AGAIN)
        seen.add(tensor.name)
    for value in (*graph.input, *graph.output):
        dimensions = [item.dim_value for item in value.type.tensor_type.shape.dim if item.HasField("dim_value")]
        if any(size < 0 for size in dimensions):
            raise SourceError(f"{value.name!r} has the dimensions {dimensions}", "Give free dimensions a name instead.")


def _check_values(tensor: TensorProto) -> None:
    import onnx
    from onnx import numpy_helper

    size = size_bytes(tensor)
    given = [name for name in VALUE_FIELDS if len(getattr(tensor, name))]
    if len(given) > 1:
        raise SourceError(f"tensor {tensor.name!r} has values as {' and as '.join(given)}", EXPORT_AGAIN)
    if tensor.data_type == onnx.TensorProto.STRING:
        return
    if bool(given) != bool(size):
        raise _missing(tensor, size, 0)
    if given == ["raw_data"] and len(tensor.raw_data) != size:
        raise _missing(tensor, size, len(tensor.raw_data))
    try:
        values = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OverflowError) as error:
        raise SourceError(f"tensor {tensor.name!r} does not fill the shape {_shape(tensor)}", EXPORT_AGAIN) from error
    _check_numbers(tensor.name, values)


def _check_numbers(name: str, values: Any) -> None:
    import numpy as np

    if values.size > 1 and values.dtype.kind == "f" and bool(np.isnan(values).any()):
        count = int(np.isnan(values).sum())
        raise SourceError(f"tensor {name!r}: {count} of {values.size} values are NaN", "Train it again: it diverged.")


def _missing(tensor: Any, size: int, have: int) -> SourceError:
    return SourceError(
        f"tensor {tensor.name!r} of shape {_shape(tensor)} needs {size} bytes of values, {have} are there", EXPORT_AGAIN
    )


def _shape(tensor: Any) -> list[int]:
    return list(tensor.dims)[:8]


def _bits(data_type: int) -> int:
    import onnx
    from onnx import TensorProto

    packed = {
        TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.FLOAT4E2M1: 4,
        getattr(TensorProto, "INT2", -1): 2, getattr(TensorProto, "UINT2", -1): 2,
    }  # fmt: skip
    return packed.get(data_type) or int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize) * 8
