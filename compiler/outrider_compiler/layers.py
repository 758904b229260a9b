"""How much of the signal each layer of a candidate keeps, compared with fp32 value by value.

1. Both run operator by operator (no fusion), so that every layer's result is there to be read; a few samples suffice.
2. A value is read as the next layer reads it: behind its activation and after its rounding.
3. Layers are named as in the source. A layer that a candidate has merged into another has no figure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from outrider_compiler.candidate import Candidate
from outrider_compiler.data import Array, Feeds
from outrider_compiler.quality import sqnr_db

SAMPLES: Final = 16


@dataclass(frozen=True)
class LayerFigure:
    """`precision` is what the layer's arithmetic runs in: "fp32", "fp16", "int8", "int16", "int4 weights"."""

    name: str
    kind: str
    sqnr_db: float
    precision: str

    def json(self) -> dict[str, Any]:
        """As it stands in the lock and in report.json."""
        return dict(vars(self))


def compare(candidate: Candidate, baseline: Candidate, feeds: Feeds) -> tuple[LayerFigure, ...]:
    """Figures of the layers that both have, in the source's order; a few samples in `feeds` suffice."""
    original = {layer.name: dict(layer.values) for layer in baseline.layers}
    both = []
    for layer in candidate.layers:
        known = original.get(layer.name, {})
        pair = next(((known[value], tensor) for value, tensor in layer.values if value in known), None)
        if pair is not None:
            both.append((layer, *pair))
    if not both:
        return ()
    expected = _values(baseline, [have for _, have, _ in both], feeds)
    got = _values(candidate, [tensor for _, _, tensor in both], feeds)
    return tuple(
        LayerFigure(layer.name, layer.kind, round(sqnr_db(expected[have], got[tensor]), 2), layer.precision)
        for layer, have, tensor in both
    )


def _values(candidate: Candidate, tensors: Collection[str], feeds: Feeds) -> dict[str, Array]:
    return (_litert_values if candidate.engine == "litert" else _onnx_values)(candidate, tensors, feeds)


def _onnx_values(candidate: Candidate, tensors: Collection[str], feeds: Feeds) -> dict[str, Array]:
    import onnx
    import onnxruntime as ort

    from outrider_compiler.engines import PROVIDERS, session_options

    model, wanted = onnx.load_model_from_string(candidate.data), list(dict.fromkeys(tensors))
    have = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in have)
    options = session_options(threads=1, optimize=False)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=PROVIDERS)
    first = session.get_inputs()[0].shape[:1]
    answers = [session.run(wanted, part) for part in _pieces(feeds, first[0] if first else None)]
    return {name: _flat([answer[i] for answer in answers]) for i, name in enumerate(wanted)}


def _pieces(feeds: Feeds, size: Any) -> list[Feeds]:
    """All samples at once, or whole pieces of the size that a file is fixed to."""
    n = len(next(iter(feeds.values())))
    if not isinstance(size, int):
        return [feeds]
    rows = [np.arange(start, start + size) % n for start in range(0, max(n - size, 0) + 1, size)]
    return [{name: np.ascontiguousarray(value[part]) for name, value in feeds.items()} for part in rows]


def _flat(values: list[Array]) -> Array:
    return np.concatenate([value.reshape(-1) for value in values])


def _litert_values(candidate: Candidate, tensors: Collection[str], feeds: Feeds) -> dict[str, Array]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from outrider_compiler.engines import load
    from outrider_profiles import Load

    names = [spec.name for spec in load(candidate, Load()).inputs]
    interpreter: Any = Interpreter(
        model_content=candidate.data,
        num_threads=1,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    places = {detail["name"]: detail for detail in interpreter.get_tensor_details()}
    values: dict[str, list[Array]] = {name: [] for name in tensors}
    for part in _pieces(feeds, 1):
        for detail, name in zip(interpreter.get_input_details(), names, strict=True):
            interpreter.set_tensor(detail["index"], part[name])
        interpreter.invoke()
        for name, parts in values.items():
            parts.append(_restored(interpreter.get_tensor(places[name]["index"]), places[name]))
    return {name: _flat(parts) for name, parts in values.items()}


def _restored(value: Array, detail: dict[str, Any]) -> Array:
    """A tensor's numbers, from integers where it is quantized."""
    found = detail["quantization_parameters"]
    if not found["scales"].size:
        return np.array(value)
    return np.asarray((value.astype(np.float32) - found["zero_points"].astype(np.float32)) * found["scales"])
