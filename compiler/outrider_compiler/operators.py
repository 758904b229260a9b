"""What a candidate computes in integers and what it does not: counted in the graph that the engine really runs.

1. `share`: of the convolutions and products, those on integers, 0..1. `fallback`: every operator of numbers that stays
   in float, with its count ("Softmax × 4"), layers first. Reshapes and the like move values and do not count.
2. What another engine than the one at hand will run (an accelerator's QDQ, activations of 16 bits) is counted in the
   file: a layer whose inputs are restored from integers is one that the accelerator runs on integers.
3. Two candidates with equal `signature`s run the same graph, whatever their files look like: weights that are restored
   when the model is loaded leave no trace in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler.candidate import Candidate
from outrider_compiler.candidates.target import target_of
from outrider_profiles import Profile

if TYPE_CHECKING:
    from onnx import ModelProto

FLOAT_LAYERS: Final = {
    "Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedGemm", "FusedMatMul", "LSTM", "GRU",
    "RNN", "Attention", "MultiHeadAttention", "Einsum",
}  # fmt: skip
INTEGER_LAYERS: Final = {
    "QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul", "QLinearConvTranspose", "DynamicQuantizeLSTM", "QAttention", "MatMulNBits",
}  # fmt: skip
MOVES: Final = {
    "Cast", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "DynamicQuantizeLinear", "Expand", "Flatten",
    "Gather", "GatherElements", "GatherND", "Identity", "Pad", "QuantizeLinear", "Range", "ReorderInput",
    "ReorderOutput", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
LITERT_LAYERS: Final = {
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL", "UNIDIRECTIONAL_SEQUENCE_LSTM",
}  # fmt: skip
LITERT_MOVES: Final = {
    "CAST", "CONCATENATION", "DELEGATE", "DEQUANTIZE", "EXPAND_DIMS", "FILL", "GATHER", "PACK", "PAD", "PADV2",
    "QUANTIZE", "RESHAPE", "SHAPE", "SLICE", "SPLIT", "SQUEEZE", "STRIDED_SLICE", "TILE", "TRANSPOSE", "UNPACK",
}  # fmt: skip
INTEGER_TYPES: Final = {"int8", "uint8", "int16"}
COUNTED_IN_FILE: Final = "int16_activation"


@dataclass(frozen=True)
class Found:
    """What an engine runs: kinds of layers and other operators, on integers or in float, and the graph's signature."""

    integer_layers: Counter[str]
    float_layers: Counter[str]
    float_others: Counter[str]
    signature: str = ""

    @property
    def share(self) -> float:
        """Share of the layers that run on integers, 0..1."""
        integers, floats = self.integer_layers.total(), self.float_layers.total()
        return round(integers / (integers + floats), 4) if integers + floats else 0.0

    @property
    def fallback(self) -> tuple[str, ...]:
        """Operators in float with their counts."""
        return (*_said(self.float_layers), *_said(self.float_others))


def _said(kinds: Counter[str]) -> Iterable[str]:
    return (f"{kind} × {count}" for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def share_and_fallback(candidate: Candidate, profile: Profile | None = None) -> tuple[float, tuple[str, ...]]:
    """Of a candidate for a profile (None: for this machine); a float one has share 0 and nothing to fall back."""
    if not candidate.precision.startswith("int"):
        return 0.0, ()
    found = look(candidate, profile)
    return found.share, found.fallback


def quantized_share(candidate: Candidate) -> float:
    """Share of convolutions and products that run on integers, 0..1; 0 for a float candidate."""
    return share_and_fallback(candidate)[0]


def look(candidate: Candidate, profile: Profile | None = None) -> Found:
    """What the profile's engine runs of a candidate, as far as it is known here."""
    if candidate.engine == "litert":
        return _litert(candidate)
    elsewhere = profile is not None and not target_of(profile).on_cpu
    return _in_file(candidate) if elsewhere or candidate.precision == COUNTED_IN_FILE else _in_engine(candidate)


def _in_engine(candidate: Candidate) -> Found:
    graph = _engine_graph(candidate.data)
    kinds = [node.op_type for node in graph.graph.node]
    return Found(
        Counter(kind for kind in kinds if kind in INTEGER_LAYERS),
        Counter(kind for kind in kinds if kind in FLOAT_LAYERS),
        Counter(kind for kind in kinds if _is_float_other(kind)),
        _signature(graph),
    )


def _is_float_other(kind: str) -> bool:
    return kind not in MOVES | FLOAT_LAYERS | INTEGER_LAYERS and not kind.startswith("QLinear")


def _engine_graph(data: bytes) -> ModelProto:
    import tempfile
    from pathlib import Path

    import onnx
    import onnxruntime as ort

    from outrider_compiler.engines import PROVIDERS, session_options

    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads=1)
        options.optimized_model_filepath = str(Path(folder) / "engine.onnx")
        ort.InferenceSession(data, options, providers=PROVIDERS)
        return onnx.load_model(options.optimized_model_filepath)


def _signature(model: ModelProto) -> str:
    """Digest of operators, attributes, shapes of weights and wiring, but of no name and no weight."""
    import hashlib

    places: dict[str, str] = {"": ""}
    for value in model.graph.input:
        places[value.name] = f"input {value.name}"
    for tensor in model.graph.initializer:
        places[tensor.name] = f"{tensor.data_type}{list(tensor.dims)}"
    digest = hashlib.sha256()
    for number, node in enumerate(model.graph.node):
        said = [node.domain, node.op_type, *(places.get(name, "?") for name in node.input)]
        said += sorted(item.SerializeToString(deterministic=True).hex() for item in node.attribute)
        digest.update(repr(said).encode())
        places.update((name, f"{number}:{place}") for place, name in enumerate(node.output))
    digest.update(repr([places.get(value.name) for value in model.graph.output]).encode())
    return digest.hexdigest()


def _in_file(candidate: Candidate) -> Found:
    import onnx

    nodes = onnx.load_model_from_string(candidate.data).graph.node
    restored = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    integers, floats, others = Counter[str](), Counter[str](), Counter[str]()
    for node in nodes:
        is_restored = all(name in restored for name in node.input[:2])
        if node.op_type in FLOAT_LAYERS:
            (integers if is_restored else floats)[node.op_type] += 1
        elif _is_float_other(node.op_type) and not (node.input and node.input[0] in restored):
            others[node.op_type] += 1
    return Found(integers, floats, others)


def _litert(candidate: Candidate) -> Found:
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_content=candidate.data)
    types = {detail["index"]: detail["dtype"].__name__ for detail in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()
    restored = {int(op["outputs"][0]) for op in operators if op["op_name"] == "DEQUANTIZE"}
    integers, floats, others = Counter[str](), Counter[str](), Counter[str]()
    for op in operators:
        kind, read = op["op_name"], [int(i) for i in op["inputs"][:2] if int(i) not in restored]
        in_integers = any(types.get(i) in INTEGER_TYPES for i in read)
        if kind in LITERT_LAYERS:
            (integers if in_integers else floats)[kind] += 1
        elif kind not in LITERT_MOVES and not in_integers:
            others[kind] += 1
    return Found(integers, floats, others)
