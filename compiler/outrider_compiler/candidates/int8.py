"""Weights and activations in 8 bits: static ranges, ranges found at every inference, and weights alone.

1. Types, weight range and per-channel scales are the profile's; ranges are `calibrate.ranges`.
2. On ONNX Runtime's CPU one static form: convolutions with what stands between them in QDQ (`chains`), large products
   on integers with float results (`products`), HardSwish in integers (`gates`); what stays float keeps its weights in
   bytes (`storage`). For TensorRT roundings in front of layers with weights and nowhere else, as its guide asks.
   Everywhere else QDQ around every operator that can be. Both have (where there are convolutions) a second form without
   the dense head, which gains nothing there and costs accuracy.
3. The softmax that gives the model's answer stays in float: 256 steps of confidence would be too coarse for the drift
   detector. So do softmaxes inside, but for accelerators that compute in integers alone.
4. `int8_dynamic` leaves convolutions in float with weights in bytes: ConvInteger measured 5 to 30 times slower than
   Conv. `int8_weight` leaves all arithmetic in float: for engines without fast integers, the small file at the full
   speed.
5. A form in which nothing became an integer is not built, and the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates import chains, gates, products, qdq, storage
from outrider_compiler.candidates.job import Job
from outrider_compiler.candidates.links import Links
from outrider_compiler.candidates.target import Target
from outrider_compiler.candidates.tracing import finished
from outrider_compiler.normalise import copied

if TYPE_CHECKING:
    from onnx import ModelProto

SOFTMAX: Final = {"Softmax", "LogSoftmax"}
DENSE: Final = {"Gemm", "MatMul", "ReduceMean", "GlobalAveragePool", "Squeeze", "Reshape", "Flatten"}
FOUND_AT_RUN_TIME: Final = ["Attention", "EmbedLayerNormalization", "Gather", "LSTM", "MatMul"]
DYNAMIC: Final = {"MatMulInteger", "DynamicQuantizeLSTM", "QAttention", "DynamicQuantizeMatMul"}
NOTHING: Final = "nothing changed: no weight of the model could be quantized"
TOO_SMALL: Final = "nothing changed: no convolution or product is large enough to gain from integers here"


def static(job: Job) -> list[Candidate | NotBuilt]:
    """The static forms."""
    if job.target.on_cpu:
        return [_form("int8_static", job)]
    dense = {node.name for node in job.model.graph.node if node.op_type in DENSE}
    return [_form("int8_static", job), *([_form("int8_static_conv", job, dense)] if _is_convolutional(job) else [])]


def _is_convolutional(job: Job) -> bool:
    """Whether convolutions hold most weights, and something dense holds some."""
    links, held = Links(job.model), {"conv": 0, "dense": 0}
    for node in job.model.graph.node:
        kind = "conv" if node.op_type in chains.CONVOLUTIONS else "dense" if node.op_type in {"Gemm", "MatMul"} else ""
        for name in node.input[1:2] if kind else ():
            held[kind] += math.prod(links.weights[name].dims) if name in links.weights else 0
    return 0 < held["dense"] <= held["conv"]


def _form(name: str, job: Job, without: Collection[str] = ()) -> Candidate | NotBuilt:
    try:
        made = integers(job, without)
    except qdq.COMPLAINTS as error:
        return NotBuilt(name, f"the quantizer refused: {str(error)[:200]}")
    if made is None:
        return NotBuilt(name, TOO_SMALL if job.target.on_cpu else NOTHING)
    return finished(name, "int8_static", made, job.model)


def integers(job: Job, without: Collection[str] = (), *, keep_floats: bool = False) -> ModelProto | None:
    """The model in integers but for the nodes `without`, or None where nothing can be; raises `qdq.COMPLAINTS`.

    With `keep_floats` the weights of the nodes `without` lose nothing by storage in 8 bits.
    """
    if not job.target.on_cpu:
        nodes = everywhere(job) - set(without)
        made = qdq.quantized(job.model, nodes, ranges_of(job), job.target, float_results=float_results(job.target))
        return made if qdq.has_integer_weight(made) else None
    expanded, left = expanded_without(job, without)
    in_chains, found = chains.chosen(expanded, left), products.found(expanded, left)
    if not in_chains and not found:
        return None
    ranges = ranges_of(job)
    made = qdq.quantized(expanded, in_chains, ranges, job.target)
    gates.to_integers(made)
    products.to_integers(made, found, ranges, job.target.int8)
    storage.put_in_bytes(made, weights_of(job.model, without) if keep_floats else (), least=products.WEIGHTS_MIN)
    storage.halve_layers(made)
    return made


def everywhere(job: Job) -> set[str]:
    """Every node that the quantizer knows but the softmaxes that stay; for TensorRT the layers with weights."""
    known, links = qdq.supported(), Links(job.model)
    if job.target.in_front_of_layers:
        return {
            node.name
            for node in job.model.graph.node
            if node.op_type in qdq.LAYERS and any(links.is_float(name) for name in node.input[1:2])
        }
    return {
        node.name
        for node in job.model.graph.node
        if node.op_type in known
        and not (node.op_type in SOFTMAX and (not job.target.integers_alone or node.output[0] in links.outputs))
    }


def float_results(target: Target) -> list[str]:
    """Kinds of operators whose results are not rounded."""
    return qdq.LAYERS if target.in_front_of_layers else []


def expanded_without(job: Job, without: Collection[str]) -> tuple[ModelProto, set[str]]:
    """The model with HardSwish written out, and the names in it of the nodes `without`."""
    expanded = copied(job.model)
    if not job.target.int8.symmetric:
        gates.expand(expanded)
    return expanded, {name + part for name in without for part in ("", gates.GATE, gates.PRODUCT)}


def ranges_of(job: Job) -> Any:
    """Ranges of what the static forms round, whichever nodes they leave out."""
    if job.target.on_cpu:
        expanded, _ = expanded_without(job, ())
        values = touched(expanded, chains.chosen(expanded)) | {item.x for item in products.found(expanded)}
        return gates.ranges_with_gates(expanded, job.calibrate(frozenset(values)))
    return job.calibrate(frozenset(touched(job.model, everywhere(job))))


def touched(model: ModelProto, names: Collection[str]) -> set[str]:
    """What the nodes of these names read and give."""
    nodes = [node for node in model.graph.node if node.name in names]
    return {name for node in nodes for name in (*node.input, *node.output)}


def weights_of(model: ModelProto, names: Collection[str]) -> set[str]:
    """Names of the weights that the nodes of these names read."""
    weights = Links(model).weights
    return {name for node in model.graph.node if node.name in set(names) for name in node.input if name in weights}


def dynamic(job: Job) -> list[Candidate | NotBuilt]:
    """Products (and recurrent cells) with ranges found at every inference; then weights alone."""
    return [_dynamic(job), *([weight_alone(job)] if job.target.on_cpu else [])]


def _dynamic(job: Job) -> Candidate | NotBuilt:
    try:
        made = _found_at_run_time(job)
    except qdq.COMPLAINTS as error:
        return NotBuilt("int8_dynamic", f"the quantizer refused: {str(error)[:200]}")
    if not any(node.op_type in DYNAMIC for node in made.graph.node):
        return NotBuilt("int8_dynamic", "nothing changed: no product or recurrent cell has constant weights")
    if job.target.on_cpu:
        storage.put_in_bytes(made)
    return finished("int8_dynamic", "int8_dynamic", made, job.model)


def _found_at_run_time(job: Job) -> ModelProto:
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    out, int8 = job.folder / "dynamic.onnx", job.target.int8
    quantize_dynamic(
        copied(job.model),
        out,
        op_types_to_quantize=FOUND_AT_RUN_TIME,
        per_channel=int8.per_channel,
        reduce_range=int8.reduce_range,
        weight_type=_weight_type(int8.weight),
    )
    return onnx.load_model(out)


def _weight_type(word: str) -> Any:
    from onnxruntime.quantization import QuantType

    return {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}[word]


def weight_alone(job: Job) -> Candidate | NotBuilt:
    """All arithmetic in float, weights in bytes."""
    made = copied(job.model)
    if not storage.put_in_bytes(made):
        return NotBuilt("int8_weight", "nothing changed: no weight is large enough to store in bytes")
    return finished("int8_weight", "int8_dynamic", made, job.model)
