"""Which nodes gain from integers on ONNX Runtime's CPU: convolutions, and what stands between them.

1. A convolution runs 2 to 4 times as fast on integers, and so does not what follows: an operator between two of them
   is quantized where all that it reads is (a Relu costs nothing then, a sum is one kernel), elsewhere it would only
   add two roundings. A value that leaves the chain becomes a float once.
2. A convolution alone with few products per result does not earn the rounding of its input and its output.
3. Products (MatMul, Gemm) are not here: `products` runs them on integers with float results.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from outrider_compiler.candidates.gates import is_gate
from outrider_compiler.candidates.links import Links

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

CONVOLUTIONS: Final = {"Conv", "ConvTranspose"}
BETWEEN: Final = {
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul", "Pad",
    "Relu", "Reshape", "Resize", "Sigmoid", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
FLOAT_BETWEEN: Final = {"ReduceMean", "Softmax", "LogSoftmax", "LayerNormalization", "HardSigmoid", "Erf", "Gelu"}
# Of a convolution without integer neighbours: products per result that pay for two roundings, in time and in noise.
# Measured alone: 16 run at 0.83 of fp32's speed, 64 at 0.91 to 1.14, 144 at 1.25, 288 at 1.59; and a transformer whose
# patches have 49 loses 6 dB at its outputs by them.
ALONE_MIN: Final = 256


def chosen(model: ModelProto, without: Iterable[str] = ()) -> set[str]:
    """Names of the nodes to quantize, none of `without`; the model's nodes stand in an order of computation."""
    links, excluded = Links(model), set(without)
    members: dict[str, NodeProto] = {}
    for node in model.graph.node:
        if node.name not in excluded and not node.domain and _belongs(node, links, members):
            members[node.name] = node
    alone = {name for part in _parts(members, links) if _is_too_small(part, members, links) for name in part}
    return {name for name, node in members.items() if name not in alone and node.op_type != "HardSigmoid"}


def _belongs(node: NodeProto, links: Links, members: dict[str, NodeProto]) -> bool:
    if node.op_type in CONVOLUTIONS:
        return len(node.input) > 1 and links.is_float(node.input[1])
    if node.op_type not in BETWEEN and not is_gate(node):
        return False
    made = [links.makers.get(name) for name in _read(node, links)]
    return bool(made) and all(maker is not None and maker.name in members for maker in made)


def _read(node: NodeProto, links: Links) -> list[str]:
    """The values that a node computes with: no weights, and no sizes or axes."""
    places = node.input if node.op_type in {"Add", "Mul", "Concat"} else node.input[:1]
    return [name for name in places if name and name not in links.weights]


def _parts(members: dict[str, NodeProto], links: Links) -> Iterator[set[str]]:
    """Members that reach each other over members."""
    left = set(members)
    while left:
        part, waiting = set(), [next(name for name in members if name in left)]
        while waiting:
            name = waiting.pop()
            if name in left:
                left.remove(name)
                part.add(name)
                waiting += _neighbours(members[name], links)
        yield part


def _neighbours(node: NodeProto, links: Links) -> list[str]:
    makers = [links.makers[name].name for name in node.input if name in links.makers]
    return makers + [taker.name for name in node.output for taker in links.takers.get(name, [])]


def _is_too_small(part: set[str], members: dict[str, NodeProto], links: Links) -> bool:
    convolutions = [members[name] for name in part if members[name].op_type in CONVOLUTIONS]
    return len(convolutions) == 1 and _products(convolutions[0], links) < ALONE_MIN


def _products(convolution: NodeProto, links: Links) -> int:
    """Multiplications per value of the result."""
    return math.prod(links.weights[convolution.input[1]].dims[1:])
