"""fp32 as it is, and fp16 weights with fp32 inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.normalise import finish

if TYPE_CHECKING:
    from onnx import ModelProto


def fp32(model: ModelProto) -> Candidate:
    """The model itself. Changes `model`."""
    return Candidate("fp32", "fp32", "onnxruntime", finish(model))


def fp16(model: ModelProto) -> Candidate | NotBuilt:
    """Half precision inside, fp32 outside. Changes `model`."""
    from onnx import TensorProto
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        half = convert_float_to_float16(model, keep_io_types=True)
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        return NotBuilt("fp16", f"the converter refused: {str(error)[:200]}")
    if not any(tensor.data_type == TensorProto.FLOAT16 for tensor in half.graph.initializer):
        return NotBuilt("fp16", "nothing changed: the model holds no fp32 weight")
    return Candidate("fp16", "fp16", "onnxruntime", finish(half))
