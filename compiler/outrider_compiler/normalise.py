"""One form for every model: simplified, in a version that the profile reads, and without a trace of its maker.

1. Simplify (onnxslim), fix a free batch where the profile needs it, convert to an opset that the profile allows, lower
   the IR version where it must be.
2. Strip documentation, producer, metadata and inferred shapes: the torch exporter leaks source paths there.
3. Name everything inside by `naming`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler import graph_walk
from outrider_compiler.errors import SourceError, UnsupportedModelError
from outrider_compiler.naming import rename
from outrider_profiles import Profile

if TYPE_CHECKING:
    from onnx import ModelProto

WORK_OPSET: Final = 13  # quantization per channel begins here
IR_WITHOUT_WEIGHT_INPUTS: Final = 4  # before it, each initializer was an input too, and the converter insists


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
    """Bring shapes, opset and IR version into the profile's ranges; raises `UnsupportedModelError`. Changes `model`."""
    if not profile.shapes.dynamic_batch:
        model = _fix_batch(model, profile.shapes.batch)
    have = opset_of(model)
    want = min(max(have, profile.opset.min, WORK_OPSET), profile.opset.max)
    if want != have:
        model.ir_version = max(int(model.ir_version), IR_WITHOUT_WEIGHT_INPUTS)
        model = _converted(model, want, profile)
    model.ir_version = min(max(int(model.ir_version), profile.ir.min), profile.ir.max)
    return model


def _fix_batch(model: ModelProto, batch: int) -> ModelProto:
    """Give a free first dimension of the inputs, and whatever has its name, the size `batch`."""
    from onnx.shape_inference import infer_shapes

    firsts = [value.type.tensor_type.shape.dim[0] for value in model.graph.input]
    free = [dimension for dimension in firsts if not dimension.HasField("dim_value")]
    if not free:
        return model
    names = {dimension.dim_param for dimension in free} - {""}
    for value in (*model.graph.input, *model.graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in names and not dimension.HasField("dim_value"):
                dimension.dim_value = batch
    for dimension in free:
        dimension.dim_value = batch
    del model.graph.value_info[:]
    return infer_shapes(model)


def _converted(model: ModelProto, want: int, profile: Profile) -> ModelProto:
    from onnx import version_converter

    have = opset_of(model)
    try:
        return version_converter.convert_version(model, want)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedModelError(
            f"opset {have} cannot be converted to {want}, which {profile.name} reads"
            f" ({_obstacle(model, have, want, str(error))})",
            f"Export the model with opset {max(profile.opset.min, WORK_OPSET)} to {profile.opset.max}.",
        ) from error


def _obstacle(model: ModelProto, have: int, want: int, said: str) -> str:
    """The operator that the converter names, or those that differ between the two versions."""
    from onnx import defs

    named = re.search(r"(?:Version of|Version \$?\d+ for|Adapter for) (\w+)", said, re.IGNORECASE)
    if named:
        return f"operator {named[1]}"
    found = {node.op_type for node in graph_walk.nodes(model) if not node.domain}
    changed = [
        kind
        for kind in sorted(found)
        if defs.has(kind, have) and (not defs.has(kind, want) or _since(kind, have) != _since(kind, want))
    ]
    return f"one of the operators {', '.join(changed)}" if changed else " ".join(said.split())[-200:]


def _since(kind: str, opset: int) -> int:
    from onnx import defs

    return int(defs.get_schema(kind, opset).since_version)


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
    for number, graph in enumerate(graph_walk.graphs(model)):
        graph.name = "main" if number == 0 else "inner"
        _strip_graph(graph)
    used = {node.domain or "" for node in graph_walk.nodes(model)}
    kept = [item for item in model.opset_import if (item.domain if item.domain != "ai.onnx" else "") in used | {""}]
    kept.sort(key=lambda item: item.domain)
    del model.opset_import[:]
    model.opset_import.extend(kept)
    _free_dimension(model.graph)


def _strip_graph(graph: Any) -> None:
    graph.doc_string = ""
    del graph.value_info[:], graph.quantization_annotation[:], graph.metadata_props[:]
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        item.doc_string = ""
        del item.metadata_props[:]


def _free_dimension(graph: Any) -> None:
    """Free dimensions get the names `d0`, `d1`, …: an exporter's own names differ from run to run."""
    named: dict[str, str] = {}
    for value in (*graph.input, *graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = named.setdefault(dimension.dim_param, f"d{len(named)}")
