r"""Named tensors in one file (golden vectors, samples): a JSON header, then raw little-endian data.

    magic "O1T\x01" | u32 header length | header JSON | data of every tensor, in header order

1. No pickle, no numpy: a tensor is (dtype, shape, bytes); callers with numpy use `np.frombuffer`.
2. Shape and dtype must account for exactly the bytes that are there.

>>> data = encode({"x": Tensor("f4", (2,), bytes(8))}, {"rtol": 0.001})
>>> decode(data, limit_bytes=1000)[0]["x"].shape
(2,)
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, Final

from outrider_protocol import canonical, limits
from outrider_protocol.errors import MalformedError, TooLargeError
from outrider_protocol.fields import Fields

MAGIC: Final = b"O1T\x01"
ITEM_BYTES: Final = {"f4": 4, "f8": 8, "f2": 2, "i1": 1, "i2": 2, "i4": 4, "i8": 8, "u1": 1, "u2": 2, "u4": 4}


@dataclass(frozen=True)
class Tensor:
    """Raw little-endian values in row-major order; `dtype` is a key of `ITEM_BYTES`."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def check(self, name: str) -> None:
        """Raise `MalformedError` unless shape, dtype and bytes agree."""
        if self.dtype not in ITEM_BYTES:
            raise MalformedError(f"tensor {name!r}: unknown dtype {self.dtype!r}")
        expected = math.prod(self.shape) * ITEM_BYTES[self.dtype]
        if any(n < 0 for n in self.shape) or expected != len(self.data):
            raise MalformedError(f"tensor {name!r}: {self.shape} of {self.dtype} does not fill {len(self.data)} bytes")


def encode(tensors: dict[str, Tensor], meta: dict[str, Any]) -> bytes:
    """Return the file's bytes; the same input gives the same bytes."""
    for name, tensor in tensors.items():
        tensor.check(name)
    described = [
        {"name": name, "dtype": tensor.dtype, "shape": list(tensor.shape), "bytes": len(tensor.data)}
        for name, tensor in sorted(tensors.items())
    ]
    header = canonical.encode({"meta": meta, "tensors": described})
    body = b"".join(tensor.data for _, tensor in sorted(tensors.items()))
    return MAGIC + struct.pack("<I", len(header)) + header + body


def decode(data: bytes, limit_bytes: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return (tensors by name, meta); raises `TooLargeError` or `MalformedError`."""
    if len(data) > limit_bytes:
        raise TooLargeError("tensors", len(data), limit_bytes)
    header, body = split_header(data, MAGIC, "tensors")
    tensors: dict[str, Tensor] = {}
    offset = 0
    for item in header.objects("tensors"):
        end = offset + item.integer("bytes")
        tensor = Tensor(item.text("dtype"), _shape(item), body[offset:end])
        tensor.check(item.text("name"))
        tensors[item.text("name")] = tensor
        offset = end
    if offset != len(body):
        raise MalformedError(f"tensors: {len(body) - offset} bytes are left over")
    return tensors, header.raw("meta")


def split_header(data: bytes, magic: bytes, what: str) -> tuple[Fields, bytes]:
    """Split `magic | u32 length | JSON | body` and return (header, body)."""
    if data[:4] != magic or len(data) < 8:
        raise MalformedError(f"{what}: wrong magic {data[:4]!r}")
    (length,) = struct.unpack_from("<I", data, 4)
    if 8 + length > len(data):
        raise MalformedError(f"{what}: truncated header")
    header = canonical.decode(data[8 : 8 + length], limits.CONFIG_BYTES, what)
    return Fields(header, what), data[8 + length :]


def _shape(item: Fields) -> tuple[int, ...]:
    shape = item.list("shape")
    if len(shape) > 8 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
        raise MalformedError(f"{item.what}.shape: at most eight non-negative integers")
    return tuple(shape)
