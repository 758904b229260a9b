"""ONNX files.

1. A file over the limit, corrupt, without a graph or with inconsistent types is refused, never half-read.
2. Tensors outside the file are read by `external_data` and become part of the model.
3. The parent reads what a child (`probe`) has read, checked and written anew, never the file itself.
4. What comes out has no local functions (they are inlined) and no inputs that are weights (as before IR version 4).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outrider_compiler import graph_walk
from outrider_compiler.errors import SourceError
from outrider_compiler.importers import external_data, onnx_structure
from outrider_compiler.importers.child import one_line
from outrider_compiler.normalise import IR_WITHOUT_WEIGHT_INPUTS
from outrider_protocol import limits

if TYPE_CHECKING:
    from onnx import ModelProto

UNKNOWN_TO_CHECKER: Final = "com.microsoft"  # types behind its operators cannot be inferred; the engine checks them


def read(path: Path) -> tuple[ModelProto, str]:
    """The model of a file with all its tensors (still to be `checked`) and its digest; raises `SourceError`."""
    data = read_bytes(path)
    model = _decoded(data, str(path))
    try:
        onnx_structure.check_versions(model)
        files = external_data.inline(model, path.parent, len(data))
        onnx_structure.check(model)
    except SourceError as error:
        raise SourceError(f"{path}: {error}", error.hint) from error
    return model, external_data.digest("sha256:" + hashlib.sha256(data).hexdigest(), files)


def read_bytes(path: Path) -> bytes:
    """A file's bytes within the limit; raises `SourceError`."""
    try:
        if not path.is_file():
            raise SourceError(f"{path}: no such file")
        if path.stat().st_size > limits.LAYER_BYTES:
            raise SourceError(f"{path}: larger than {limits.LAYER_BYTES} bytes")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: {error}") from error


def parse(data: bytes, what: str) -> ModelProto:
    """Parse and check the bytes of a model in one file; raises `SourceError`."""
    model = _decoded(data, what)
    try:
        onnx_structure.check_versions(model)
        external_data.refuse(model)
        onnx_structure.check(model)
    except SourceError as error:
        raise SourceError(f"{what}: {error}", error.hint) from error
    return checked(model, what)


def _decoded(data: bytes, what: str) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # its stubs are a package apart

    try:
        return onnx.load_model_from_string(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{what}: not an ONNX file ({error})", onnx_structure.EXPORT_AGAIN) from error


def checked(model: ModelProto, what: str) -> ModelProto:
    """The model in the form of rule 4, where onnx's own checker finds it consistent; raises `SourceError`."""
    import onnx
    from onnx.inliner import inline_local_functions

    try:
        del model.training_info[:]
        full = not any(node.domain == UNKNOWN_TO_CHECKER for node in graph_walk.nodes(model))
        onnx.checker.check_model(model, full_check=full)
        _drop_weight_inputs(model)
        return inline_local_functions(model) if model.functions else model
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        said = one_line(str(error)) or type(error).__name__
        raise SourceError(f"{what}: {said}", onnx_structure.EXPORT_AGAIN) from error


def _drop_weight_inputs(model: ModelProto) -> None:
    """Before IR version 4 each initializer was an input too; only the others are what the model takes."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    if len(kept) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(kept)
        model.ir_version = max(int(model.ir_version), IR_WITHOUT_WEIGHT_INPUTS)
