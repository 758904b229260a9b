"""How much of a candidate computes in integers: counted in the graph that the engine really runs."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from outrider_compiler.candidate import Candidate

FLOAT: Final = {"Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedGemm", "FusedMatMul"}
INTEGER: Final = {
    "QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul", "QLinearConvTranspose",
}  # fmt: skip


def share_and_fallback(candidate: Candidate) -> tuple[float, tuple[str, ...]]:
    """Share of convolutions and products that run on integers, 0..1, and those kinds that stayed float, with counts."""
    if not candidate.precision.startswith("int8"):
        return 0.0, ()
    if candidate.engine == "litert":
        return _litert_share(candidate), ()
    counted = [kind for kind in _engine_graph(candidate.data) if kind in FLOAT | INTEGER]
    left = Counter(kind for kind in counted if kind in FLOAT)
    share = round(sum(kind in INTEGER for kind in counted) / len(counted), 4) if counted else 0.0
    return share, tuple(f"{kind} × {n}" for kind, n in sorted(left.items()))


def _engine_graph(data: bytes) -> list[str]:
    import tempfile
    from pathlib import Path

    import onnx
    import onnxruntime as ort

    from outrider_compiler.engines import PROVIDERS, session_options

    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads=1)
        options.optimized_model_filepath = str(Path(folder) / "engine.onnx")
        ort.InferenceSession(data, options, providers=PROVIDERS)
        return [node.op_type for node in onnx.load_model(options.optimized_model_filepath).graph.node]


def _litert_share(candidate: Candidate) -> float:
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_content=candidate.data)
    kinds = {detail["index"]: str(detail["dtype"].__name__) for detail in interpreter.get_tensor_details()}
    operators = [op for op in interpreter._get_ops_details() if op["op_name"] in _LITERT_COMPUTE]
    integer = [op for op in operators if kinds.get(int(op["outputs"][0])) in ("int8", "uint8", "int16")]
    return round(len(integer) / len(operators), 4) if operators else 0.0


_LITERT_COMPUTE: Final = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"}
