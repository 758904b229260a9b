"""Names inside a graph that depend on nothing but the graph: values `v…`, weights `w…` and nodes `n…`, in order.

Inputs and outputs of the model keep theirs; subgraphs are named with the graph that they stand in.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler import graph_walk

if TYPE_CHECKING:
    from onnx import ModelProto

_DIGITS: Final = string.digits + string.ascii_lowercase


def rename(model: ModelProto) -> None:
    """Rename in graph order, subgraphs after the graph that they stand in. Changes `model`."""
    names = _Names(value.name for value in (*model.graph.input, *model.graph.output))
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        _sort_weights(graph)
        _name_values(graph, names)
        waiting.extend(reversed([inner for node in graph.node for inner in graph_walk.subgraphs(node)]))
    numbers = itertools.count()
    for graph in graph_walk.graphs(model):
        _apply(graph, names, numbers)


class _Names(dict[str, str]):
    """New names by old ones; inputs and outputs of the model keep theirs, and nothing else gets them."""

    def __init__(self, kept: Iterable[str]) -> None:
        super().__init__({"": ""})
        self.update((name, name) for name in kept)
        self._kept = frozenset(self)

    def add(self, name: str, kind: str) -> None:
        """Name a value (`v`) or weight (`w`), once."""
        if name not in self:
            fresh = f"{kind}{_short(len(self))}"
            self[name] = f"{fresh}_" if fresh in self._kept else fresh


def _sort_weights(graph: Any) -> None:
    order = {name: i for i, name in enumerate(name for node in graph.node for name in node.input)}
    weights = sorted(graph.initializer, key=lambda item: order.get(item.name, len(order)))
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _name_values(graph: Any, names: _Names) -> None:
    for item in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)):
        names.add(item.name, "w")
    for value in graph.input:
        names.add(value.name, "v")
    for node in graph.node:
        for name in node.output:
            names.add(name, "v")


def _apply(graph: Any, names: _Names, numbers: Iterator[int]) -> None:
    for node in graph.node:
        node.name = f"n{_short(next(numbers))}"
        renamed_in, renamed_out = [names[name] for name in node.input], [names[name] for name in node.output]
        del node.input[:], node.output[:]
        node.input.extend(renamed_in)
        node.output.extend(renamed_out)
    sparse = (item.values for item in graph.sparse_initializer)
    for item in (*graph.initializer, *sparse, *graph.input, *graph.output):
        item.name = names[item.name]


def _short(number: int) -> str:
    digits = _DIGITS[number % 36]
    return digits if number < 36 else _short(number // 36) + digits
