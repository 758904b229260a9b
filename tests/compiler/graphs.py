"""Small models as real files: ONNX by `onnx.helper`, LiteRT by its schema's own classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HIDDEN, CLASSES = 4, 8, 3
VOCABULARY, TOKENS = 20, 5


def value(name: str, shape: Sequence[int | str] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """An input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def array(name: str, values: np.ndarray) -> onnx.TensorProto:
    """An initializer."""
    return numpy_helper.from_array(values, name)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
    *,
    opset: int = 18,
    ir: int = 8,
    domains: Sequence[str] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model of one graph."""
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=functions)


def dense(opset: int = 18, ir: int = 8, *, extra: Sequence[onnx.NodeProto] = (), **more: Any) -> onnx.ModelProto:
    """x [batch, 4] → MatMul, Add, Relu, Gemm, Softmax → probabilities [batch, 3]; `extra` nodes read `logits`."""
    rng = np.random.default_rng(0)
    weights = [
        array("w1", rng.normal(size=(WIDTH, HIDDEN)).astype(np.float32)),
        array("b1", rng.normal(size=HIDDEN).astype(np.float32)),
        array("w2", rng.normal(size=(HIDDEN, CLASSES)).astype(np.float32)),
        array("b2", np.zeros(CLASSES, np.float32)),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m"], name="first"),
        helper.make_node("Add", ["m", "b1"], ["a"]),
        helper.make_node("Relu", ["a"], ["h"]),
        helper.make_node("Gemm", ["h", "w2", "b2"], ["logits"], name="head"),
        *extra,
        helper.make_node("Softmax", [extra[-1].output[0] if extra else "logits"], ["probabilities"], axis=1),
    ]
    inputs, outputs = [value("x", ["batch", WIDTH])], [value("probabilities", ["batch", CLASSES])]
    if ir < 4:  # as it was: each weight is an input too
        inputs += [value(item.name, list(item.dims)) for item in weights]
    return model(nodes, inputs, outputs, weights, opset=opset, ir=ir, **more)


def embedding(kind: int = TensorProto.INT32) -> onnx.ModelProto:
    """tokens [batch, 5] of integers and scale [batch, 1] → probabilities [batch, 3] and embedding [batch, 8]."""
    rng = np.random.default_rng(1)
    weights = [
        array("table", rng.normal(size=(VOCABULARY, HIDDEN)).astype(np.float32)),
        array("w", rng.normal(size=(HIDDEN, CLASSES)).astype(np.float32)),
        array("b", np.zeros(CLASSES, np.float32)),
        array("axes", np.array([1], np.int64)),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["e"], name="look_up"),
        helper.make_node("ReduceMean", ["e", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    inputs = [value("tokens", ["batch", TOKENS], kind), value("scale", ["batch", 1])]
    outputs = [value("probabilities", ["batch", CLASSES]), value("embedding", ["batch", HIDDEN])]
    return model(nodes, inputs, outputs, weights)


def quantized(zero_point: int) -> onnx.ModelProto:
    """x → QuantizeLinear, DequantizeLinear, Gemm, Softmax, with the given zero point."""
    weights = [
        array("scale", np.array(0.1, np.float32)),
        array("input_zero_point", np.array(zero_point, np.int8)),
        array("w", np.ones((WIDTH, CLASSES), np.float32)),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "input_zero_point"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "input_zero_point"], ["d"]),
        helper.make_node("Gemm", ["d", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    return model(nodes, [value("x", ["batch", WIDTH])], [value("probabilities", ["batch", CLASSES])], weights)


def branching(inner: onnx.NodeProto, **more: Any) -> onnx.ModelProto:
    """A graph whose If holds `inner`, a node from `x` to `chosen`."""
    condition = helper.make_node("Constant", [], ["yes"], value=array("", np.array(True)))
    branches = [
        helper.make_graph([node], name, [], [value("chosen", None)])
        for name, node in (("then", inner), ("else", helper.make_node("Relu", ["x"], ["chosen"])))
    ]
    # A condition that cannot be folded away: whether the sum is positive.
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Constant", [], ["zero"], value=array("", np.array(0.0, np.float32))),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        condition,
        helper.make_node("And", ["positive", "yes"], ["take"]),
        helper.make_node("If", ["take"], ["y"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Softmax", ["y"], ["probabilities"], axis=1),
    ]
    return model(nodes, [value("x", ["batch", WIDTH])], [value("probabilities", ["batch", WIDTH])], [], **more)


def tflite(*, custom: str = "", zero_point: int | None = None, weights: np.ndarray | None = None) -> bytes:
    """A LiteRT file: x [1, 4] → FULLY_CONNECTED (or a custom operator) → SOFTMAX → probabilities [1, 3]."""
    from ai_edge_litert import schema_py_generated as schema

    matrix = np.random.default_rng(2).normal(size=(CLASSES, WIDTH)).astype(np.float32) if weights is None else weights
    buffers = [schema.BufferT(), schema.BufferT()]
    buffers[1].data = np.frombuffer(matrix.tobytes(), np.uint8)
    tensors = [
        tensor(schema, "serving_default_x:0", [1, WIDTH], 0),
        tensor(schema, "dense/weights", [CLASSES, WIDTH], 1),
        tensor(schema, "dense/logits", [1, CLASSES], 0),
        tensor(schema, "StatefulPartitionedCall:0", [1, CLASSES], 0),
    ]
    if zero_point is not None:
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [0.5], [zero_point]
        tensors[2].quantization = quantization
    first = schema.BuiltinOperator.CUSTOM if custom else schema.BuiltinOperator.FULLY_CONNECTED
    codes = [code(schema, first, custom), code(schema, schema.BuiltinOperator.SOFTMAX, "")]
    operators = [operator(schema, 0, [0, 1, -1], [2]), operator(schema, 1, [2], [3])]
    if not custom:
        operators[0].builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operators[0].builtinOptions = schema.FullyConnectedOptionsT()
    operators[1].builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
    operators[1].builtinOptions = schema.SoftmaxOptionsT()
    operators[1].builtinOptions.beta = 1.0
    return packed(schema, codes, tensors, operators, buffers)


def tensor(schema: Any, name: str, shape: list[int], buffer: int, kind: int = 0) -> Any:
    """A tensor of the schema, of float32."""
    made = schema.TensorT()
    made.name, made.shape, made.buffer, made.type = name, shape, buffer, kind
    return made


def code(schema: Any, number: int, custom: str) -> Any:
    """An operator's code."""
    made = schema.OperatorCodeT()
    made.builtinCode, made.deprecatedBuiltinCode, made.version = number, min(number, 127), 1
    made.customCode = custom or None
    return made


def operator(schema: Any, number: int, inputs: list[int], outputs: list[int]) -> Any:
    """An operator between tensors."""
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = number, inputs, outputs
    return made


def packed(schema: Any, codes: list[Any], tensors: list[Any], operators: list[Any], buffers: list[Any]) -> bytes:
    """The file: its first tensor is the input `x`, its last one the output `probabilities`."""
    import flatbuffers

    last = len(tensors) - 1
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs, graph.name = tensors, operators, [0], [last], "main"
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [_named(schema, "x", 0)], [_named(schema, "probabilities", last)]
    whole = schema.ModelT()
    whole.version, whole.operatorCodes, whole.subgraphs, whole.buffers = 3, codes, [graph], buffers
    whole.signatureDefs, whole.description = [signature], "a test"
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _named(schema: Any, name: str, index: int) -> Any:
    item = schema.TensorMapT()
    item.name, item.tensorIndex = name, index
    return item
