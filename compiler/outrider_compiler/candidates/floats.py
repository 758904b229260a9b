"""fp32 as it is, and fp16 with fp32 inputs and outputs.

1. ONNX Runtime's CPU kernels have no halves to compute with: there fp16 means weights of 16 bits in the file, which
   become floats when the model is loaded (measured on a transformer: casts around every node cost 20 to 60 % of the
   speed, this costs nothing). Elsewhere the whole graph computes in halves.
2. A graph that the converter of the whole graph refuses keeps its operators and has halved weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates import storage
from outrider_compiler.candidates.tracing import finished
from outrider_compiler.normalise import copied

if TYPE_CHECKING:
    from onnx import ModelProto


def fp32(model: ModelProto) -> Candidate:
    """The model itself; `model` is not changed."""
    return finished("fp32", "fp32", copied(model), model)


def fp16(model: ModelProto, *, computes_halves: bool) -> Candidate | NotBuilt:
    """Half precision inside, fp32 outside; `model` is not changed."""
    from onnx import TensorProto

    half = (_converted(model) if computes_halves else None) or _halved(model)
    if not any(tensor.data_type == TensorProto.FLOAT16 for tensor in half.graph.initializer):
        return NotBuilt("fp16", "nothing changed: the model holds no fp32 weight that 16 bits can hold")
    return finished("fp16", "fp16", half, model)


def _converted(model: ModelProto) -> ModelProto | None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        half: ModelProto = convert_float_to_float16(copied(model), keep_io_types=True)
    except (ValueError, RuntimeError, TypeError, AttributeError, KeyError, IndexError):
        return None
    return half


def _halved(model: ModelProto) -> ModelProto:
    half = copied(model)
    storage.halve(half)
    return half
