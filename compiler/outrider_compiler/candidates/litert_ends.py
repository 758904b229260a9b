"""Which operators stand at the ends of a LiteRT graph. Runs in the child process of `litert_export`."""

from __future__ import annotations

import math
from typing import Any, Final

from outrider_compiler.candidates.chains import ALONE_MIN
from outrider_compiler.candidates.litert_recipes import NORM, Ends
from outrider_compiler.candidates.litert_slim import LAYERS, operators
from outrider_compiler.candidates.products import WEIGHTS_MIN

ARITHMETIC: Final = {"ADD", "DIV", "MUL", "SUB"}


def ends_of(model: Any) -> Ends:
    """What prepares an input, what without weights gives an output, and layers that gain nothing from integers."""
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import get_op_scope

    plain: list[str] = []
    light: list[tuple[str, str]] = []
    for graph in model.subgraphs:
        found = [(kind, op, str(get_op_scope(op, graph.tensors))) for kind, op in operators(model, graph)]
        outputs, has_norms = {int(i) for i in graph.outputs}, any(kind in NORM for kind, _, _ in found)
        plain += _preparing(model, graph, found)
        plain += [scope for kind, op, scope in found if kind not in LAYERS and outputs & _all(op.outputs)]
        light += [(scope, kind) for kind, op, scope in found if _is_light(kind, _weight(graph, op), has_norms)]
    return Ends(tuple(plain), tuple(light))


def _all(tensors: Any) -> set[int]:
    return {int(i) for i in tensors if int(i) >= 0}


def _weight(graph: Any, operator: Any) -> list[int]:
    """Shape of an operator's second input."""
    shape = graph.tensors[int(operator.inputs[1])].shape if len(operator.inputs) > 1 else None
    return [int(size) for size in shape] if shape is not None else []


def _is_light(kind: str, shape: list[int], has_norms: bool) -> bool:
    if kind == "FULLY_CONNECTED":
        return math.prod(shape) < WEIGHTS_MIN
    products = {"CONV_2D": math.prod(shape[1:]), "DEPTHWISE_CONV_2D": math.prod(shape[1:3])}
    return has_norms and products.get(kind, ALONE_MIN) < ALONE_MIN


def _preparing(model: Any, graph: Any, found: list[tuple[str, Any, str]]) -> list[str]:
    """Operators between an input and the first layers, where one of them computes."""
    reached, scopes, computes = _all(graph.inputs), [], False
    for kind, operator, scope in found:
        read = {i for i in _all(operator.inputs) if model.buffers[graph.tensors[i].buffer].data is None}
        if kind not in LAYERS and read and read <= reached:
            reached |= _all(operator.outputs)
            scopes.append(scope)
            computes = computes or kind in ARITHMETIC
    return scopes if computes else []
