"""Zero points of a model that came quantized: where they are, and which are not a constant 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from outrider_compiler import graph_walk

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

QUANTIZE_SYMMETRICALLY: Final = "Quantize symmetrically (signed 8 bits), or give the float model."
# Inputs that hold a zero point, by operator.
PLACES: Final = {
    "QuantizeLinear": (2,), "DequantizeLinear": (2,), "QLinearConv": (2, 5, 7), "QLinearMatMul": (2, 5, 7),
    "ConvInteger": (2, 3), "MatMulInteger": (2, 3), "QLinearAdd": (2, 5, 7), "QLinearMul": (2, 5, 7),
    "QGemm": (2, 5, 8), "QLinearGlobalAveragePool": (2, 4), "QLinearAveragePool": (2, 4), "QLinearSigmoid": (2, 4),
    "QLinearLeakyRelu": (2, 4), "QLinearSoftmax": (2, 4), "QLinearReduceMean": (2, 4),
}  # fmt: skip
FOUND_LATER: Final = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}


def asymmetric(model: ModelProto) -> Iterator[tuple[NodeProto, str]]:
    """Nodes with a zero point that is not a constant 0, and which."""
    known = graph_walk.constants(model)
    for node in graph_walk.nodes(model):
        if node.op_type in FOUND_LATER:
            yield node, "its zero point is found at every inference"
        for place in PLACES.get(node.op_type, ()):
            name = node.input[place] if place < len(node.input) else ""
            if name and not _is_zero(known.get(name)):
                yield node, f"zero point {name!r} is not 0"


def _is_zero(tensor: TensorProto | None) -> bool:
    from onnx import numpy_helper

    return tensor is not None and not numpy_helper.to_array(tensor).astype("int64").any()
