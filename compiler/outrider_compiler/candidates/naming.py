"""What nodes are called while candidates are made: each by a name of its own, layers as the source's reader knows them.

An ONNX file's names stay. torch's exporter numbers its nodes ("node_linear_7") but writes down in which module each
was made: a layer gets that path ("blocks.0.query"). None of these names ships.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from outrider_compiler.candidates.tracing import LAYERS

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

SCOPES: Final = "pkg.torch.onnx.name_scopes"
CLASSES: Final = "pkg.torch.onnx.class_hierarchy"
TORCH_MODULE: Final = "torch.nn.modules."
WRITTEN_MAX: Final = 4096


def name_nodes(model: ModelProto, original: ModelProto) -> None:
    """Name every node of the main graph; `original` has what its maker wrote about nodes. Changes `model`."""
    paths = {node.name: path for node in original.graph.node if node.name and (path := module_path(node))}
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        path = paths.get(node.name, "") if node.op_type in LAYERS else ""
        node.name = _free(path or node.name or f"{node.op_type}_{number}", taken)
        taken.add(node.name)


def _free(name: str, taken: set[str]) -> str:
    count, free = 1, name
    while free in taken:
        count += 1
        free = f"{name}#{count}"
    return free


def module_path(node: NodeProto) -> str:
    """Path of the module that made a node; of a function inside a module the path and the function; '' if unknown."""
    written = {item.key: item.value for item in node.metadata_props}
    scopes, classes = _list(written.get(SCOPES, "")), _list(written.get(CLASSES, ""))
    if len(scopes) < 2 or len(scopes) != len(classes):
        return ""
    is_torch_layer = classes[-2].startswith(TORCH_MODULE)
    return scopes[-2] if is_torch_layer and scopes[-2] else ".".join(filter(None, scopes[-2:]))


def _list(text: str) -> list[str]:
    try:
        value = ast.literal_eval(text) if len(text) <= WRITTEN_MAX else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else []
