"""LiteRT files without what the engine does not read. Runs in the child process of `litert_export`.

1. Names of inner tensors (paths of modules, a hundred characters each) become `t0`, `t1`, … in the order of the fp32
   file, the same in every form; inputs and outputs keep theirs.
2. Equal vectors are written once. Each channel of each weight and bias has a scale of its own and, in 8 bytes, a zero
   point of 0: a sixth of a small net's file.
3. An output that is a float in front of a rounding leaves as this float: the quantizer gives the integer behind it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from outrider_compiler.data import Array

if TYPE_CHECKING:
    from collections.abc import Iterator

IDENTIFIER: Final = b"TFL3"
ALIGNMENT: Final = 16
EXTERNAL: Final = 1  # a buffer's offset above it lies outside the tables
LAYERS: Final = {"BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
WITH_WEIGHTS: Final = re.compile(r"Conv|Linear")


def parsed(data: bytes) -> Any:
    """The file as objects (`ModelT`), with every buffer inside the tables."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for buffer in model.buffers:
        if buffer.offset > EXTERNAL:
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def packed(model: Any) -> bytes:
    """The objects as a file, equal vectors written once."""
    import flatbuffers

    class Builder(flatbuffers.Builder):  # type: ignore[misc]  # the package has no types
        seen: dict[tuple[str, bytes], int]

        def CreateNumpyVector(self, x: Array) -> int:  # noqa: N802  # the package's name
            key = (x.dtype.str, x.tobytes())
            if key not in self.seen:
                if x.dtype == np.uint8:
                    self.Prep(ALIGNMENT, x.nbytes)
                self.seen[key] = super().CreateNumpyVector(x)
            return self.seen[key]

    builder = Builder(1024)
    builder.seen = {}
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def rename(model: Any, names: dict[bytes, bytes]) -> None:
    """Give inner tensors short names; `names` grows by what it does not know yet. Changes `model`."""
    for graph in model.subgraphs:
        edges = {*(int(i) for i in graph.inputs), *(int(i) for i in graph.outputs)}
        for number, tensor in enumerate(graph.tensors):
            if number not in edges:
                tensor.name = names.setdefault(tensor.name, b"t%d" % len(names))


def free_outputs(model: Any) -> None:
    """Let outputs that QUANTIZE gives be what it reads. Changes `model`."""
    for index, graph in enumerate(model.subgraphs):
        rounded = {
            int(operator.outputs[0]): int(operator.inputs[0])
            for kind, operator in operators(model, graph)
            if kind == "QUANTIZE"
        }
        graph.outputs = np.asarray([rounded.get(int(i), int(i)) for i in graph.outputs], np.int32)
        for signature in model.signatureDefs or []:
            for item in signature.outputs if signature.subgraphIndex == index else []:
                item.tensorIndex = rounded.get(int(item.tensorIndex), int(item.tensorIndex))


def operators(model: Any, graph: Any) -> Iterator[tuple[str, Any]]:
    """Kind and operator, in the order in which they run."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        yield kinds.get(max(int(code.builtinCode), int(code.deprecatedBuiltinCode)), "CUSTOM"), operator


def layers(model: Any, originals: dict[str, str]) -> list[dict[str, Any]]:
    """The layers of the main graph as `candidate.Layer` keeps them; `originals` are long names by short ones."""
    graph = model.subgraphs[0]
    restored = {int(op.outputs[0]) for kind, op in operators(model, graph) if kind == "DEQUANTIZE"}
    found: list[dict[str, Any]] = []
    shown: Counter[str] = Counter()
    for kind, operator in operators(model, graph):
        if kind in LAYERS:
            name = graph.tensors[int(operator.outputs[0])].name.decode()
            called = readable(originals.get(name, name)) or name
            shown[called] += 1
            called += f"#{shown[called]}" if shown[called] > 1 else ""
            width = _precision([int(i) for i in operator.inputs[:2]], graph, restored)
            found.append({"name": called, "kind": kind, "precision": width, "values": [[name, name]]})
    return found


def _precision(inputs: list[int], graph: Any, restored: set[int]) -> str:
    from ai_edge_litert import schema_py_generated as schema

    types = {schema.TensorType.INT8: "int8", schema.TensorType.INT16: "int16"}
    widths = [types.get(graph.tensors[i].type, "") for i in inputs if i not in restored]
    return next((width for width in widths if width), "fp32")


def readable(name: str) -> str:
    """The module's path in the source, from the converter's name of a tensor.

    >>> readable("nets.Mobile/torch.nn.modules.container.Sequential_body/torch.nn.modules.conv.Conv2d_0;2")
    'body.0'
    """
    parts = name.split(";")
    inside = [item for item in parts if "/" in item]
    part = next((item for item in parts if WITH_WEIGHTS.search(item.rpartition("/")[2])), (inside or [""])[-1])
    steps = [step.rpartition(".")[2].partition("_")[2] for step in part.split("/")]
    return ".".join(step for step in steps if re.fullmatch(r"\w+", step))
