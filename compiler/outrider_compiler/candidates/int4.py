"""Large products with weights of 4 bits in blocks; everything else in float, its weights in bytes.

1. A block of 32 weights of one column shares a scale. It is searched for: the one with the least squared error among
   a few around the largest magnitude. MatMulNBits takes negative scales too: the odd sixteenth level is spent on the
   sign of the block's largest weight.
2. Where the engine has com.microsoft's MatMulNBits that is used, with its integer kernels; elsewhere the standard
   DequantizeLinear of 4-bit blocks, which opset 21 brought. Without either, the form is not built.
3. Embeddings (Gather) are not products and stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates import products, storage
from outrider_compiler.candidates.job import Job
from outrider_compiler.candidates.links import Links, add_weight, set_nodes, use_domain
from outrider_compiler.candidates.tracing import finished
from outrider_compiler.data import Array
from outrider_compiler.normalise import copied, opset_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

NAME: Final = "int4_weight"
# 128 × 128. Smaller weights are a small part of a file, and each block's scale and each node's bytes eat a fifth of
# what 4 bits save over 8.
LARGE: Final = 16384
BLOCK: Final = 32
BLOCKED_OPSET: Final = 21
INTEGER_KERNELS: Final = 4  # MatMulNBits: accuracy_level of 8-bit activations, 2 to 3.6 times as fast as level 0
LEAST: Final = -8
# Factors on the scale that holds the largest weight of a block exactly.
FACTORS: Final = np.linspace(0.75, 1.15, 9, dtype=np.float32)


def build(job: Job) -> Candidate | NotBuilt:
    """The form, or why it does not exist."""
    found = [item for item in products.found(job.model) if _is_large(job.model, item)]
    if not found:
        return NotBuilt(NAME, f"nothing changed: no MatMul or Gemm has a weight of {LARGE} values or more")
    if not job.target.contrib and opset_of(job.model) < BLOCKED_OPSET:
        if job.target.opset_max < BLOCKED_OPSET:
            return NotBuilt(NAME, f"4-bit blocks need opset {BLOCKED_OPSET}, the profile reads {job.target.opset_max}")
        return NotBuilt(NAME, f"4-bit blocks need opset {BLOCKED_OPSET}: export the model with it")
    made = copied(job.model)
    _replace(made, found, contrib=job.target.contrib)
    if job.target.on_cpu:
        storage.put_in_bytes(made)
    return finished(NAME, NAME, made, job.model)


def _is_large(model: ModelProto, item: products.Product) -> bool:
    dims = Links(model).weights[item.weight].dims
    return int(np.prod(dims)) >= LARGE


def _replace(model: ModelProto, found: list[products.Product], *, contrib: bool) -> None:
    links = Links(model)
    by_name = {item.node.name: item for item in found}
    biased = {item.result for item in found if contrib and item.result != item.node.output[0]}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.name in by_name:
            item = by_name[node.name]
            nodes += _packed(model, item, links) if contrib else _restored(model, node, item, links)
        elif not biased.intersection(node.output):
            nodes.append(node)
    if contrib:
        use_domain(model, products.DOMAIN)
    set_nodes(model, nodes)


def _columns(item: products.Product, links: Links) -> Array:
    """The weight as [N, K], one row for each column of the result; K filled up with zeros to whole blocks."""
    weight = links.array(item.weight)
    columns = weight if item.transposed else weight.T
    return np.pad(columns, ((0, 0), (0, -columns.shape[1] % BLOCK))).astype(np.float32)


def _packed(model: ModelProto, item: products.Product, links: Links) -> list[NodeProto]:
    from onnx import helper

    whole, scale = in_blocks(_columns(item, links), signed=True)
    dims = links.weights[item.weight].dims
    k, n = (dims[1], dims[0]) if item.transposed else (dims[0], dims[1])
    offset = (whole - LEAST).astype(np.uint8)
    packed = offset[..., 0::2] | (offset[..., 1::2] << 4)
    name = item.node.name
    inputs = [item.x, add_weight(model, f"{name}/weight", packed), add_weight(model, f"{name}/columns", scale)]
    if item.bias:
        inputs += ["", "", item.bias]
    made = helper.make_node(
        "MatMulNBits", inputs, [item.result], name=name, domain=products.DOMAIN, K=k, N=n, bits=4, block_size=BLOCK,
        accuracy_level=INTEGER_KERNELS,
    )  # fmt: skip
    return [made]


def _restored(model: ModelProto, node: NodeProto, item: products.Product, links: Links) -> list[NodeProto]:
    """DequantizeLinear in front of the product as it is: blocks along the axis of K, as the weight lies."""
    from onnx import TensorProto, helper

    whole, scale = in_blocks(_columns(item, links), signed=False)
    length = links.weights[item.weight].dims[1 if item.transposed else 0]
    flat = whole.reshape(whole.shape[0], -1)[:, :length]
    axis = 1 if item.transposed else 0
    stored, steps = (flat, scale) if item.transposed else (flat.T, scale.T)
    name = f"{node.name}/weight"
    nibbles = stored.astype(np.uint8).reshape(-1) & 15
    packed = (nibbles[0::2] | (nibbles[1::2] << 4)).tobytes()
    model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT4, stored.shape, packed, raw=True))
    by = add_weight(model, f"{node.name}/columns", steps)
    made = helper.make_node("DequantizeLinear", [name, by], [f"{name}/restored"], axis=axis, block_size=BLOCK)
    node.input[1] = f"{name}/restored"
    return [made, node]


def in_blocks(columns: Array, *, signed: bool) -> tuple[Array, Array]:
    """Integers −8..7 [N, blocks, 32] and scales [N, blocks] of a weight [N, K] in float32; scales may be `signed`."""
    blocks = columns.reshape(columns.shape[0], -1, BLOCK)
    place = np.abs(blocks).argmax(axis=2, keepdims=True)
    largest = np.take_along_axis(blocks, place, axis=2)
    exact = (largest if signed else -np.abs(largest)) / np.float32(LEAST)
    exact = np.where(exact == 0, np.float32(1), exact)
    best, least = exact, _squared_error(blocks, exact)
    for factor in FACTORS:
        scale = exact * factor
        error = _squared_error(blocks, scale)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return _rounded(blocks, best).astype(np.int8), best[..., 0]


def _rounded(blocks: Array, scale: Array) -> Array:
    return np.clip(np.rint(blocks / scale), LEAST, -LEAST - 1)


def _squared_error(blocks: Array, scale: Array) -> Array:
    return np.asarray(((blocks - _rounded(blocks, scale) * scale) ** 2).sum(axis=2, keepdims=True))
