"""Tensors in requests and responses of the Open Inference Protocol v2, JSON and binary. Pure.

Rules (docs/spec/local-api.md):

- Every input of the model is given once, by name, with the model's datatype; −1 in its shape takes any length.
- Shape × item size must be the tensor's length exactly, checked before anything is allocated; a binary body holds the
  tensors in the order of the header and nothing else.
- A response holds the outputs asked for (all, if none is named), binary where the request says so.
- What is answered beside the tensors stands in `parameters`: prediction ids and the artifact's digest.

Source: Open Inference Protocol, "HTTP/REST" and "binary tensor data extension" (kserve/open-inference-protocol).

>>> from outrider_protocol.manifest import TensorSpec
>>> signature = Signature((TensorSpec("x", "float32", (-1, 2)),), ("y",))
>>> text = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
>>> read_request(text, 0, signature).feeds(memoryview(b""))["x"].tolist()
[[1.0, 2.0]]
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from outrider_agent.worker.errors import MalformedRequestError, TensorError
from outrider_protocol.manifest import TensorSpec

Array = NDArray[Any]
Buffer = bytes | memoryview
DATATYPES: Final = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
NAMES: Final = {dtype: name for name, dtype in DATATYPES.items()}
HEADER_BYTES: Final = 64 * 1024
RANK_MAX: Final = 8


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives, and how many elements one request may hold."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    elements_max: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class TensorPart:
    """One input of a request: its bytes start at `offset` of the binary body, or its values stand in `data`."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    data: Array | None


@dataclass(frozen=True)
class InferRequest:
    """A request's header, checked against the signature; valid for every body of `binary_bytes` bytes."""

    id: str
    inputs: tuple[TensorPart, ...]
    outputs: tuple[str, ...]
    binary_outputs: frozenset[str]
    rows: int
    binary_bytes: int

    def feeds(self, body: memoryview) -> dict[str, Array]:
        """The inputs as arrays; binary ones are views of `body`, without a copy."""
        return {part.name: _array(part, body) for part in self.inputs}


def _array(part: TensorPart, body: memoryview) -> Array:
    if part.data is not None:
        return part.data
    return np.frombuffer(body, part.dtype, math.prod(part.shape), part.offset).reshape(part.shape)


def read_request(header: bytes, binary_bytes: int, signature: Signature) -> InferRequest:
    """Parse an inference header followed by `binary_bytes` of tensors; raises a `RequestError`."""
    document = _document(header)
    entries = _objects(document, "inputs")
    specs = {spec.name: spec for spec in signature.inputs}
    parts: list[TensorPart] = []
    offset = 0
    for entry in entries:
        part, used = _part(entry, specs, offset, signature.elements_max)
        parts.append(part)
        offset += used
    if offset != binary_bytes:
        raise TensorError(f"the tensors' binary data have {offset} bytes, the body holds {binary_bytes}")
    if sorted(part.name for part in parts) != sorted(specs):
        raise TensorError(f"inputs are {', '.join(sorted(specs))}, each once; not {[part.name[:40] for part in parts]}")
    outputs, binary = _outputs(document, signature)
    return InferRequest(_text(document, "id"), tuple(parts), outputs, binary, _rows(parts), binary_bytes)


def _document(header: bytes) -> dict[str, Any]:
    try:
        document = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise MalformedRequestError(f"the inference header is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise MalformedRequestError("the inference header is not a JSON object")
    return document


def _objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = document.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise MalformedRequestError(f"{name} must be a list of objects")
    return value


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name, "")
    if not isinstance(value, str) or len(value) > 256:
        raise MalformedRequestError(f"{name} must be a string of at most 256 characters")
    return value


def _parameters(document: dict[str, Any]) -> dict[str, Any]:
    value = document.get("parameters", {})
    if not isinstance(value, dict):
        raise MalformedRequestError("parameters must be an object")
    return value


def _part(
    entry: dict[str, Any], specs: dict[str, TensorSpec], offset: int, elements_max: int
) -> tuple[TensorPart, int]:
    name = _text(entry, "name")
    if name not in specs:
        raise TensorError(f"{name[:40]!r} is not an input; inputs are {', '.join(sorted(specs))}")
    spec, shape = specs[name], _shape(entry, name)
    dtype = _dtype(entry, spec)
    _check_shape(spec, shape, elements_max)
    size = _parameters(entry).get("binary_data_size")
    if size is None:
        return TensorPart(name, dtype, shape, 0, _values(entry, dtype, shape)), 0
    expected = math.prod(shape) * dtype.itemsize
    if type(size) is not int or size != expected:
        raise TensorError(f"{name}: {shape} of {entry['datatype']} needs {expected} bytes, not {size!r:.40}")
    return TensorPart(name, dtype, shape, offset, None), expected


def _shape(entry: dict[str, Any], name: str) -> tuple[int, ...]:
    shape = entry.get("shape")
    if not isinstance(shape, list) or len(shape) > RANK_MAX or not all(type(n) is int and n >= 0 for n in shape):
        raise TensorError(f"{name}: shape must be at most {RANK_MAX} non-negative integers")
    return tuple(shape)


def _dtype(entry: dict[str, Any], spec: TensorSpec) -> np.dtype[Any]:
    expected = NAMES.get(spec.dtype, spec.dtype)
    if entry.get("datatype") != expected:
        raise TensorError(f"{spec.name}: datatype {entry.get('datatype')!r:.40}, the model takes {expected}")
    return np.dtype(spec.dtype)


def _check_shape(spec: TensorSpec, shape: tuple[int, ...], elements_max: int) -> None:
    fits = len(shape) == len(spec.shape) and all(want in (-1, got) for want, got in zip(spec.shape, shape, strict=True))
    if not fits or 0 in shape:
        raise TensorError(f"{spec.name}: shape {list(shape)}, the model takes {list(spec.shape)}")
    if math.prod(shape) > elements_max:
        raise TensorError(f"{spec.name}: {math.prod(shape)} values, at most {elements_max} are taken")


def _values(entry: dict[str, Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    try:
        with np.errstate(over="raise"):
            values = np.asarray(entry.get("data"), dtype=dtype)
    except (ValueError, TypeError, OverflowError, FloatingPointError) as error:
        raise TensorError(f"{entry['name']}: data are not {entry['datatype']}: {error}") from error
    if values.size != math.prod(shape):
        raise TensorError(f"{entry['name']}: {values.size} values do not fill shape {list(shape)}")
    return values.reshape(shape)


def _rows(parts: list[TensorPart]) -> int:
    rows = {part.shape[0] if part.shape else 1 for part in parts}
    if len(rows) != 1:
        raise TensorError(f"inputs differ in their first dimension: {sorted(rows)}")
    return rows.pop()


def _outputs(document: dict[str, Any], signature: Signature) -> tuple[tuple[str, ...], frozenset[str]]:
    default = _parameters(document).get("binary_data_output") is True
    asked = _objects(document, "outputs")
    names = tuple(_text(entry, "name") for entry in asked) or signature.outputs
    unknown = [name for name in names if name not in signature.outputs]
    if unknown or len(set(names)) != len(names):
        raise TensorError(f"outputs are {', '.join(signature.outputs)}, each once; not {[n[:40] for n in names]}")
    said = {_text(entry, "name"): _parameters(entry).get("binary_data", default) is True for entry in asked}
    return names, frozenset(name for name in names if said.get(name, default))


def write_response(
    request: InferRequest, identity: str, outputs: dict[str, Array], parameters: str
) -> tuple[list[Buffer], int | None]:
    """Body parts of a response and the length of its JSON part (None where nothing is binary).

    `identity` is the JSON text `"model_name":…,"model_version":…`, `parameters` the JSON object beside it: both come
    ready made, so that one answer costs no JSON encoder.
    """
    described: list[str] = []
    binary: list[Buffer] = []
    for name in request.outputs:
        values = np.ascontiguousarray(outputs[name])
        described.append(
            _describe_binary(name, values.shape, values.dtype.char)
            if name in request.binary_outputs
            else _describe_json(name, values)
        )
        if name in request.binary_outputs:
            binary.append(values.reshape(-1).view(np.uint8).data)
    named = f',"id":{json.dumps(request.id)}' if request.id else ""
    header = f'{{{identity}{named},"outputs":[{",".join(described)}],"parameters":{parameters}}}'.encode()
    return [header, *binary], len(header) if binary else None


def _described(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f'{{"name":{json.dumps(name)},"shape":{json.dumps(shape)},"datatype":"{NAMES[dtype.name]}",'


@lru_cache(maxsize=256)
def _describe_binary(name: str, shape: tuple[int, ...], char: str) -> str:
    dtype = np.dtype(char)
    size = math.prod(shape) * dtype.itemsize
    return f'{_described(name, shape, dtype)}"parameters":{{"binary_data_size":{size}}}}}'


def _describe_json(name: str, values: Array) -> str:
    return f'{_described(name, values.shape, values.dtype)}"data":{json.dumps(finite_list(values))}}}'


def finite_list(values: Array) -> list[Any]:
    """Flat JSON values; NaN and infinities, which JSON cannot say, become null."""
    if values.dtype.kind != "f":
        return list(values.ravel().tolist())
    return [value if math.isfinite(value) else None for value in values.ravel().tolist()]


def request_header(inputs: dict[str, Array], outputs: Sequence[str] = (), identity: str = "") -> bytes:
    """The inference header of a request whose tensors follow in binary, in this order; outputs binary too."""
    described = [
        {
            "name": name,
            "shape": list(values.shape),
            "datatype": NAMES[values.dtype.name],
            "parameters": {"binary_data_size": values.nbytes},
        }
        for name, values in inputs.items()
    ]
    document: dict[str, Any] = {"inputs": described, "parameters": {"binary_data_output": True}}
    if outputs:
        document["outputs"] = [{"name": name} for name in outputs]
    if identity:
        document["id"] = identity
    return json.dumps(document, separators=(",", ":")).encode()


def read_response(header: bytes, body: memoryview) -> tuple[dict[str, Array], dict[str, Any]]:
    """Outputs by name (views of `body` where binary) and `parameters` of a response; raises `MalformedRequestError`."""
    document = _document(header)
    outputs: dict[str, Array] = {}
    offset = 0
    for entry in _objects(document, "outputs"):
        values = _response_values(entry, body, offset)
        outputs[_text(entry, "name")] = values
        offset += values.nbytes if "binary_data_size" in _parameters(entry) else 0
    return outputs, _parameters(document)


def _response_values(entry: dict[str, Any], body: memoryview, offset: int) -> Array:
    dtype, shape = np.dtype(DATATYPES[entry["datatype"]]), tuple(entry["shape"])
    if "data" in entry:
        return np.asarray(entry["data"], dtype=dtype).reshape(shape)
    return np.frombuffer(body, dtype, math.prod(shape), offset).reshape(shape)
