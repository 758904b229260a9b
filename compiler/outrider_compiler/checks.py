"""What the profile cannot run is refused here, before anything is quantized, with the node or tensor named.

Rules are in docs/spec/compiler.md (CMP-CHK). Nodes are looked at wherever they stand: in subgraphs too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler import graph_walk, zero_points
from outrider_compiler.errors import UnsupportedModelError
from outrider_compiler.normalise import opset_of
from outrider_profiles import Profile

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

STANDARD: Final = {"", "ai.onnx"}
DOMAINS: Final = {"onnxruntime": STANDARD | {"ai.onnx.ml", "com.microsoft"}}
INPUT_TYPES: Final = {"float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"}
MEMORY_FACTOR: Final = 2  # weights once as the file and once as the engine's copy


def check(model: ModelProto, profile: Profile) -> None:
    """Raise `UnsupportedModelError` where the profile cannot run the (unconverted) model."""
    check_versions(model, profile)
    check_domains(model, profile)
    for node in graph_walk.nodes(model):
        _check_operator(node, profile)
    for value in model.graph.input:
        _check_input(value, profile)
    for value in model.graph.output:
        _check_output(value)
    if profile.int8.symmetric:
        _check_symmetric(model, profile)
    check_memory(((tensor.name, tensor.ByteSize()) for tensor in graph_walk.tensors(model)), profile)


def check_versions(model: ModelProto, profile: Profile) -> None:
    """Opset newer than the profile reads is converted later where it can be; none at all is refused here."""
    if opset_of(model) < 1:
        raise UnsupportedModelError("the model imports no version of the ONNX operators", "Export it again.")
    if model.ir_version > profile.ir.max and model.functions:
        raise UnsupportedModelError(
            f"IR version {model.ir_version} with functions: {profile.name} reads up to {profile.ir.max}",
            "Export the model without local functions.",
        )


def check_domains(model: ModelProto, profile: Profile) -> None:
    """Raise `UnsupportedModelError` for operators that neither the engine nor the model itself defines."""
    known = DOMAINS.get(profile.engine.name, STANDARD)
    own = {(function.domain, function.name) for function in model.functions}
    for node in graph_walk.nodes(model):
        if node.domain not in known and (node.domain, node.op_type) not in own:
            raise UnsupportedModelError(
                f"{label(node)}: operator domain {node.domain!r} is unknown to {profile.engine.name}",
                "Replace the custom operator by standard ones.",
            )


def label(node: NodeProto) -> str:
    """How a node is named to the reader."""
    name = node.name or f"-> {node.output[0] if node.output else '(nothing)'}"
    return f"node {name!r} ({node.op_type})"


def _check_operator(node: NodeProto, profile: Profile) -> None:
    if node.op_type in profile.deny_operators:
        raise UnsupportedModelError(
            f"{label(node)}: {profile.name} does not run {node.op_type}", instead(node.op_type, profile)
        )


def instead(operator: str, profile: Profile) -> str:
    """What to do about an operator that the profile denies."""
    if profile.int8.full:
        return f"Replace {operator} by one with an 8-bit form: the board computes in integers only. Or leave it out."
    return f"Replace {operator}, or build for a profile that runs it."


def _check_input(value: Any, profile: Profile) -> None:
    from onnx import helper

    tensor = _tensor_type(value, "input")
    check_rank(value.name, len(tensor.shape.dim), profile)
    for i, dimension in enumerate(tensor.shape.dim):
        free = not dimension.HasField("dim_value")
        if (free and i > 0) or (not free and dimension.dim_value < 1):
            said = f"is free ({dimension.dim_param!r})" if free else f"is {dimension.dim_value}"
            raise UnsupportedModelError(
                f"input {value.name!r}: dimension {i} {said}, {profile.name} needs a fixed size",
                f"Fix every dimension but the first when exporting; dimension 0 {_batch(profile)}.",
            )
    itemsize = helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    _check_size(value.name, [int(dimension.dim_value) for dimension in tensor.shape.dim], itemsize, profile)


def _check_size(name: str, shape: list[int], itemsize: int, profile: Profile) -> None:
    size = math.prod(max(n, 1) for n in shape) * itemsize
    if size > profile.memory_bytes:
        raise UnsupportedModelError(
            f"input {name!r} of shape {shape} takes {size} bytes, {profile.name} has {profile.memory_bytes}",
            "Use a smaller input.",
        )


def check_rank(name: str, rank: int, profile: Profile) -> None:
    """Raise `UnsupportedModelError` for an input without a batch or of more dimensions than the profile takes."""
    if rank == 0:
        raise UnsupportedModelError(f"input {name!r} is a scalar", "The first axis of every input is samples.")
    if profile.shapes.rank_max and rank > profile.shapes.rank_max:
        raise UnsupportedModelError(
            f"input {name!r} has {rank} dimensions, {profile.name} takes {profile.shapes.rank_max}",
            "Merge dimensions of the input, and reshape inside the model.",
        )


def _batch(profile: Profile) -> str:
    return "may stay free" if profile.shapes.dynamic_batch else f"becomes {profile.shapes.batch} on {profile.name}"


def _check_output(value: Any) -> None:
    _tensor_type(value, "output")


def _tensor_type(value: Any, side: str) -> Any:
    from onnx import helper

    tensor = value.type.tensor_type
    if not tensor.elem_type or (side == "input" and not tensor.HasField("shape")):
        raise UnsupportedModelError(
            f"{side} {value.name!r} is no tensor of known rank",
            "Give inputs a type and a shape; end classifiers in a tensor (sklearn: zipmap=False).",
        )
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    if dtype not in INPUT_TYPES:
        raise UnsupportedModelError(
            f"{side} {value.name!r} has type {dtype}", f"Use one of {', '.join(sorted(INPUT_TYPES))}."
        )
    return tensor


def _check_symmetric(model: ModelProto, profile: Profile) -> None:
    for node, why in zero_points.asymmetric(model):
        raise UnsupportedModelError(
            f"{label(node)}: {why}, {profile.name} has zero points of 0 alone", zero_points.QUANTIZE_SYMMETRICALLY
        )


def check_memory(sizes: Iterable[tuple[str, int]], profile: Profile) -> None:
    """Raise `UnsupportedModelError` where the memory does not hold weights of (name, bytes) twice."""
    weights = sorted(sizes, key=lambda item: item[1])
    total = sum(size for _, size in weights)
    limit = profile.budgets.memory_bytes or profile.memory_bytes
    if total * MEMORY_FACTOR > limit:
        raise UnsupportedModelError(
            f"weights of {total} bytes need twice that, {profile.name} has {limit} (largest: {weights[-1][0]!r})",
            "Use a smaller model.",
        )
