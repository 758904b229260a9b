"""What the profile cannot run is refused here, before anything is quantized, with the node or tensor named.

Rules are in docs/spec/compiler.md (CMP-CHK).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outrider_compiler.errors import UnsupportedModelError
from outrider_compiler.normalise import opset_of
from outrider_profiles import Profile

if TYPE_CHECKING:
    from onnx import ModelProto

DOMAINS: Final = {"", "ai.onnx", "com.microsoft"}
INPUT_TYPES: Final = {"float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"}
MEMORY_FACTOR: Final = 2  # weights once as the file and once as the engine's copy


def check(model: ModelProto, profile: Profile) -> None:
    """Raise `UnsupportedModelError` where the profile cannot run the (unconverted) model."""
    check_versions(model, profile)
    for node in model.graph.node:
        _check_node(node, profile)
    for value in model.graph.input:
        _check_input(value, profile)
    _check_memory(model, profile)


def check_versions(model: ModelProto, profile: Profile) -> None:
    """Opset newer than the profile reads is converted later where it can be; none at all is refused here."""
    if opset_of(model) < 1:
        raise UnsupportedModelError("the model imports no version of the ONNX operators", "Export it again.")
    if model.ir_version > profile.ir.max and model.functions:
        raise UnsupportedModelError(
            f"IR version {model.ir_version} with functions: {profile.name} reads up to {profile.ir.max}",
            "Export the model without local functions.",
        )


def label(node: Any) -> str:
    """How a node is named to the reader."""
    name = node.name or f"-> {node.output[0]}"
    return f"node {name!r} ({node.op_type})"


def _check_node(node: Any, profile: Profile) -> None:
    if node.domain not in DOMAINS:
        raise UnsupportedModelError(
            f"{label(node)}: operator domain {node.domain!r} is unknown to {profile.engine.name}",
            "Replace the custom operator by standard ones.",
        )
    if node.op_type in profile.deny_operators:
        raise UnsupportedModelError(
            f"{label(node)}: {profile.name} does not run {node.op_type}",
            f"Replace {node.op_type}, or build for a profile that runs it.",
        )


def _check_input(value: Any, profile: Profile) -> None:
    from onnx import helper

    tensor = value.type.tensor_type
    if not tensor.elem_type or not tensor.HasField("shape"):
        raise UnsupportedModelError(
            f"input {value.name!r} is no tensor of known rank", "Give inputs a type and a shape."
        )
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    if dtype not in INPUT_TYPES:
        raise UnsupportedModelError(
            f"input {value.name!r} has type {dtype}", f"Use one of {', '.join(sorted(INPUT_TYPES))}."
        )
    free = [i for i, dimension in enumerate(tensor.shape.dim) if not dimension.HasField("dim_value")]
    allowed = [0] if profile.shapes.dynamic_batch else []
    if [i for i in free if i not in allowed]:
        raise UnsupportedModelError(
            f"input {value.name!r}: dimensions {free} are free, {profile.name} allows {allowed}",
            "Fix every dimension but the first when exporting.",
        )


def _check_memory(model: ModelProto, profile: Profile) -> None:
    weights = sum(tensor.ByteSize() for tensor in model.graph.initializer)
    limit = profile.budgets.memory_bytes or profile.memory_bytes
    if weights * MEMORY_FACTOR > limit:
        largest = max(model.graph.initializer, key=lambda tensor: tensor.ByteSize())
        raise UnsupportedModelError(
            f"weights of {weights} bytes need twice that, {profile.name} has {limit} (largest: {largest.name!r})",
            "Use a smaller model.",
        )
