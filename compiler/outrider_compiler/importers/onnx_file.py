"""ONNX files.

1. A file over the limit, corrupt, without a graph or with inconsistent types is refused, never half-read.
2. Tensors outside the file ("external data") are refused in this version.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrider_compiler.digests import digest_of_file
from outrider_compiler.errors import SourceError
from outrider_compiler.importers.imported import Imported
from outrider_protocol import limits

if TYPE_CHECKING:
    from onnx import ModelProto


def load(path: Path) -> Imported:
    """Read and check an ONNX file; raises `SourceError`."""
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    if path.stat().st_size > limits.LAYER_BYTES:
        raise SourceError(f"{path}: larger than {limits.LAYER_BYTES} bytes")
    model = parse(path.read_bytes(), str(path))
    return Imported(model, "onnx", digest_of_file(path))


def parse(data: bytes, what: str) -> ModelProto:
    """Parse and check the bytes of a model; raises `SourceError`."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # its stubs are a package apart

    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise SourceError(f"{what}: not an ONNX file ({error})") from error
    _check_external(model, what)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SourceError(f"{what}: {first[:400]}", "The file is damaged or no valid ONNX: export it again.") from error
    return model


def _check_external(model: ModelProto, what: str) -> None:
    from onnx import TensorProto

    tensors: list[Any] = list(model.graph.initializer)
    for node in model.graph.node:
        tensors += [attribute.t for attribute in node.attribute if attribute.HasField("t")]
    for tensor in tensors:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            hint = "Save the model as one file (onnx.save_model(..., save_as_external_data=False))."
            raise SourceError(f"{what}: tensor {tensor.name!r} lies outside the file", hint)
