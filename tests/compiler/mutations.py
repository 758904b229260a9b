"""Seeded damage: the same seed and number give the same file, so that a finding can be made again.

Bytes are damaged here, what stands in a model in `mutations_onnx` and `mutations_litert`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

import onnx

from tests.compiler import graphs
from tests.compiler.mutations_litert import LITERT
from tests.compiler.mutations_onnx import STRUCTURES, onnx_sources


@dataclass(frozen=True)
class Mutant:
    """A damaged file: `name` says seed, number and the kind of damage."""

    name: str
    suffix: str
    data: bytes


def mutants(seed: int, count: int, *, litert: bool) -> list[Mutant]:
    """`count` damaged models, a third of them `.tflite` where LiteRT is there."""
    sources = onnx_sources()
    files = [graphs.tflite(), graphs.tflite(zero_point=3), graphs.tflite(custom="Acme")] if litert else []
    return [_mutant(random.Random(f"{seed}-{i}"), f"{seed}-{i}", sources, files) for i in range(count)]


def _mutant(rng: random.Random, name: str, sources: list[onnx.ModelProto], files: list[bytes]) -> Mutant:
    if files and rng.random() < 1 / 3:
        data = rng.choice(files)
        if rng.random() < 0.75:
            change = rng.choice(LITERT)
            return Mutant(f"{name}-{change.__name__}", ".tflite", change(rng, data))
        return _bytes(rng, name, ".tflite", data, rng.choice(files))
    model = type(sources[0])()
    model.CopyFrom(rng.choice(sources))
    if rng.random() < 0.25:
        return _bytes(rng, name, ".onnx", model.SerializeToString(), rng.choice(sources).SerializeToString())
    changes = [rng.choice(STRUCTURES) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    for change in changes:
        change(rng, model)
    return Mutant(f"{name}-{'-'.join(item.__name__ for item in changes)}", ".onnx", model.SerializeToString())


def _bytes(rng: random.Random, name: str, suffix: str, data: bytes, other: bytes) -> Mutant:
    change = rng.choice(BYTES)
    return Mutant(f"{name}-{change.__name__}", suffix, change(rng, data, other))


def damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    """Any file with any damage to its bytes."""
    return rng.choice(BYTES)(rng, data, data[::-1])


def flip(rng: random.Random, data: bytes, other: bytes) -> bytes:
    made = bytearray(data)
    for _ in range(rng.choice((1, 2, 5, 20, 100))):
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def cut(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def insert(rng: random.Random, data: bytes, other: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + rng.randbytes(rng.choice((1, 4, 50))) + data[place:]


def leave_out(rng: random.Random, data: bytes, other: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + data[place + rng.choice((1, 4, 50)) :]


def overwrite(rng: random.Random, data: bytes, other: bytes) -> bytes:
    place = rng.randrange(len(data))
    filler = rng.choice((b"\xff", b"\0", b"\x80", b"\x7f")) * rng.choice((1, 4, 8))
    return data[:place] + filler + data[place + len(filler) :]


def noise(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return rng.choice((b"", data[:8], data[:40])) + rng.randbytes(rng.choice((0, 1, 30, 3000)))


def deep(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Graphs in attributes of nodes in graphs, thousands deep, as protobuf writes them."""
    made = b""
    for _ in range(rng.choice((20, 200, 3000))):
        for field in (6, 5, 1):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            made = bytes([field << 3 | 2]) + _varint(len(made)) + made
    return b"\x08\x08" + bytes([7 << 3 | 2]) + _varint(len(made)) + made


def _varint(number: int) -> bytes:
    made = b""
    while number > 127:
        made, number = made + bytes([number & 127 | 128]), number >> 7
    return made + bytes([number])


BYTES: Final = (flip, flip, cut, splice, insert, leave_out, overwrite, overwrite, noise, deep)
