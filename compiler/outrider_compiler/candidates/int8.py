"""Static (QDQ) and dynamic 8-bit quantization with ONNX Runtime's quantizer.

1. Types, weight range and per-channel scales are the profile's; ranges are `calibrate.ranges`.
2. Softmax stays in float: 256 steps of confidence would be too coarse for the drift detector.
3. Two static forms: every operator that can be, and (where there are convolutions) the convolutions alone, because
   the small dense head of a convolutional net gains nothing and costs accuracy.
4. A form in which no weight became an integer is not built, and the report says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.normalise import copied, finish
from outrider_profiles import Int8

if TYPE_CHECKING:
    from onnx import ModelProto

STAYS_FLOAT: Final = {"Softmax", "LogSoftmax"}
DENSE: Final = {"Gemm", "MatMul", "ReduceMean", "GlobalAveragePool", "Squeeze", "Reshape", "Flatten"}
CONVOLUTIONS: Final = {"Conv", "ConvTranspose"}
INT8_TYPES: Final = (2, 3)  # TensorProto.UINT8, INT8


def static(model: ModelProto, int8: Int8, ranges: Any) -> list[Candidate | NotBuilt]:
    """Both static forms; `model` is not changed."""
    present = {node.op_type for node in model.graph.node}
    forms = [("int8_static", _supported() - STAYS_FLOAT)]
    if present & CONVOLUTIONS and present & DENSE:
        forms.append(("int8_static_conv", _supported() - STAYS_FLOAT - DENSE))
    return [_static_form(name, model, int8, ranges, operators) for name, operators in forms]


def _static_form(name: str, model: ModelProto, int8: Int8, ranges: Any, operators: set[str]) -> Candidate | NotBuilt:
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    quantizer = QDQQuantizer(
        copied(model),
        per_channel=int8.per_channel,
        reduce_range=int8.reduce_range,
        weight_qType=_type(int8.weight),
        activation_qType=_type(int8.activation),
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=sorted(operators),
        extra_options={"ActivationSymmetric": int8.activation == "s8", "WeightSymmetric": int8.weight == "s8"},
    )
    try:
        quantizer.quantize_model()
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        return NotBuilt(name, f"the quantizer refused: {str(error)[:200]}")
    return _checked(name, "int8_static", quantizer.model.model)


def dynamic(model: ModelProto, int8: Int8, folder: Path) -> Candidate | NotBuilt:
    """Weights in 8 bits, activation ranges found at every inference."""
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    out = folder / "dynamic.onnx"
    try:
        quantize_dynamic(
            model, out, per_channel=int8.per_channel, reduce_range=int8.reduce_range, weight_type=_type(int8.weight)
        )
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        return NotBuilt("int8_dynamic", f"the quantizer refused: {str(error)[:200]}")
    return _checked("int8_dynamic", "int8_dynamic", onnx.load_model(out))


def _checked(name: str, precision: str, model: ModelProto) -> Candidate | NotBuilt:
    large = [tensor for tensor in model.graph.initializer if len(tensor.dims) > 1]
    if not any(tensor.data_type in INT8_TYPES for tensor in large):
        return NotBuilt(name, "nothing changed: no weight of the model could be quantized")
    return Candidate(name, precision, "onnxruntime", finish(model))


def _type(word: str) -> Any:
    from onnxruntime.quantization import QuantType

    return {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}[word]


def _supported() -> set[str]:
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return set(QDQRegistry) | set(QLinearOpsRegistry)
