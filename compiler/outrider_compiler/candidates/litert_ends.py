"""Which operators stand at the ends of a LiteRT graph. Runs in the child process of `litert_export`."""

from __future__ import annotations

import math
from typing import Any, Final

from outrider_compiler.candidates.litert_recipes import Ends
from outrider_compiler.candidates.litert_slim import LAYERS, operators
from outrider_compiler.candidates.products import WEIGHTS_MIN

ARITHMETIC: Final = {"ADD", "DIV", "MUL", "SUB"}


def ends_of(model: Any) -> Ends:
    """What prepares an input, what without weights gives an output, and dense layers of few weights."""
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import get_op_scope

    plain: list[str] = []
    dense: list[str] = []
    for graph in model.subgraphs:
        found = [(kind, op, str(get_op_scope(op, graph.tensors))) for kind, op in operators(model, graph)]
        outputs = {int(i) for i in graph.outputs}
        plain += _preparing(model, graph, found)
        plain += [scope for kind, op, scope in found if kind not in LAYERS and outputs & _all(op.outputs)]
        dense += [scope for kind, op, scope in found if kind == "FULLY_CONNECTED" and _weights(graph, op) < WEIGHTS_MIN]
    return Ends(tuple(plain), tuple(dense))


def _all(tensors: Any) -> set[int]:
    return {int(i) for i in tensors if int(i) >= 0}


def _weights(graph: Any, operator: Any) -> int:
    return math.prod(int(size) for size in graph.tensors[int(operator.inputs[1])].shape)


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
