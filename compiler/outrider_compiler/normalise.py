"""One form for every model: simplified, in a version that the profile reads, and without a trace of its maker.

1. Simplify (onnxslim), convert to an opset that the profile allows, lower the IR version where it must be.
2. Strip documentation, producer, metadata and inferred shapes: the torch exporter leaks source paths there.
3. Name values `v…`, weights `w…` and nodes `n…` in order, so that names depend on nothing but the graph. Inputs and
   outputs keep theirs.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler.errors import SourceError, UnsupportedModelError
from outrider_profiles import Profile

if TYPE_CHECKING:
    from onnx import ModelProto

WORK_OPSET: Final = 13  # quantization per channel begins here
_DIGITS: Final = string.digits + string.ascii_lowercase


def opset_of(model: ModelProto) -> int:
    """Version of the standard operators; 0 where the model imports none."""
    return max((int(item.version) for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)


def simplify(model: ModelProto) -> ModelProto:
    """Fold constants and drop what computes nothing; raises `SourceError`."""
    import onnxslim
    from onnx.shape_inference import InferenceError

    try:
        slimmed: ModelProto = onnxslim.slim(copied(model))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, InferenceError) as error:
        raise SourceError(f"the graph cannot be simplified: {str(error)[:300]}") from error
    return slimmed


def copied(model: ModelProto) -> ModelProto:
    """A deep copy."""
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


def convert(model: ModelProto, profile: Profile) -> ModelProto:
    """Bring opset and IR version into the profile's ranges; raises `UnsupportedModelError`."""
    from onnx import version_converter

    have = opset_of(model)
    want = min(max(have, profile.opset.min, WORK_OPSET), profile.opset.max)
    if want != have:
        try:
            model = version_converter.convert_version(model, want)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[-200:]
            raise UnsupportedModelError(
                f"opset {have} cannot be converted to {want}, which {profile.name} reads ({reason})",
                f"Export the model with opset {profile.opset.min} to {profile.opset.max}.",
            ) from error
    model.ir_version = min(max(int(model.ir_version), profile.ir.min), profile.ir.max)
    return model


def finish(model: ModelProto) -> bytes:
    """Strip and rename, then serialize: the bytes that ship. Changes `model`."""
    strip(model)
    rename(model)
    return bytes(model.SerializeToString(deterministic=True))


def strip(model: ModelProto) -> None:
    """Remove everything that the engine does not need."""
    model.producer_name = model.producer_version = model.domain = model.doc_string = ""
    model.model_version = 0
    del model.metadata_props[:]
    graph = model.graph
    graph.name, graph.doc_string = "main", ""
    del graph.value_info[:], graph.quantization_annotation[:], graph.metadata_props[:]
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        item.doc_string = ""
        del item.metadata_props[:]
    used = {node.domain or "" for node in graph.node}
    kept = [item for item in model.opset_import if (item.domain if item.domain != "ai.onnx" else "") in used | {""}]
    kept.sort(key=lambda item: item.domain)
    del model.opset_import[:]
    model.opset_import.extend(kept)
    _free_dimension(graph)


def _free_dimension(graph: Any) -> None:
    """Free dimensions get the names `d0`, `d1`, …: an exporter's own names differ from run to run."""
    named: dict[str, str] = {}
    for value in (*graph.input, *graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = named.setdefault(dimension.dim_param, f"d{len(named)}")


def rename(model: ModelProto) -> None:
    """Rename in graph order; a graph with subgraphs keeps its names."""
    graph = model.graph
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return
    kept = {value.name for value in (*graph.input, *graph.output)}
    order = {name: i for i, name in enumerate(name for node in graph.node for name in node.input)}
    weights = sorted(graph.initializer, key=lambda item: order.get(item.name, len(order)))
    names = {"": "", **{name: name for name in kept}}
    for item in weights:
        names.setdefault(item.name, f"w{_short(len(names))}")
    for node in graph.node:
        for name in node.output:
            names.setdefault(name, f"v{_short(len(names))}")
    _apply(graph, names)
    ordered = [item for item in weights if item.name in set(names.values())]
    del graph.initializer[:]
    graph.initializer.extend(ordered)


def _apply(graph: Any, names: dict[str, str]) -> None:
    for number, node in enumerate(graph.node):
        node.name = f"n{_short(number)}"
        renamed_in, renamed_out = [names[name] for name in node.input], [names[name] for name in node.output]
        del node.input[:], node.output[:]
        node.input.extend(renamed_in)
        node.output.extend(renamed_out)
    for item in graph.initializer:
        item.name = names[item.name]


def _short(number: int) -> str:
    digits = _DIGITS[number % 36]
    return digits if number < 36 else _short(number // 36) + digits
