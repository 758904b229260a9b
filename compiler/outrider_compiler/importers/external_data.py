"""Tensors that an ONNX file keeps in files beside it: read by our own code and put into the model before anything else.

1. A location is a relative path of plain names inside the model's folder; no `..`, no absolute path.
2. Nothing on the way is a symbolic link; the file is a plain one with a single name (`st_nlink == 1`).
3. Offset and length lie within the file and fit the tensor's shape; all of it together keeps `limits.LAYER_BYTES`.

The digest of a model with external data is that of one line for each file, `sha256:… name`, the model's own first (as
`model`), the others sorted by name; a model without external data has the digest of its file.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler import graph_walk
from outrider_compiler.errors import SourceError
from outrider_compiler.importers import onnx_structure
from outrider_protocol import limits

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

KEYS: Final = {"location", "offset", "length", "checksum", "basepath"}
ONE_FILE: Final = "Save the model as one file (onnx.save_model(..., save_as_external_data=False))."
PLAIN: Final = (
    "External data must be plain files inside the model's folder, without links; or save the model as one file."
)
DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
BLOCK_BYTES: Final = 1 << 20


def inline(model: ModelProto, folder: Path, size_bytes: int) -> dict[str, str]:
    """Put external tensors into `model` (of a file of `size_bytes`); returns the files' digests by name.

    Raises `SourceError` that names the tensor.
    """
    outside = [tensor for tensor in graph_walk.tensors(model) if is_external(tensor)]
    total = size_bytes + sum(onnx_structure.size_bytes(tensor) for tensor in outside)
    if outside and total > limits.LAYER_BYTES:
        raise SourceError(f"external data: {total} bytes with the model, {limits.LAYER_BYTES} are allowed", ONE_FILE)
    with ExitStack() as stack:
        root = os.open(folder, DIRECTORY & ~os.O_NOFOLLOW)
        stack.callback(os.close, root)
        opened: dict[str, int] = {}
        for tensor in outside:
            _inline(tensor, root, opened, stack)
        return {name: _digest(descriptor) for name, descriptor in opened.items()}


def refuse(model: ModelProto) -> None:
    """Raise `SourceError` where a tensor lies outside a model that must be one file."""
    for tensor in graph_walk.tensors(model):
        if is_external(tensor):
            raise SourceError(f"tensor {tensor.name!r} lies outside the file", ONE_FILE)


def digest(model: str, files: dict[str, str]) -> str:
    """The digest of a model whose own file has the digest `model`; `files` as `inline` returns them."""
    if not files:
        return model
    lines = [f"{model} model", *(f"{value} {name}" for name, value in sorted(files.items()))]
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def is_external(tensor: TensorProto) -> bool:
    """Whether the tensor's values lie outside the file."""
    return bool(tensor.data_location == tensor.EXTERNAL or tensor.external_data)


def _inline(tensor: TensorProto, root: int, opened: dict[str, int], stack: ExitStack) -> None:
    stated = {entry.key: entry.value for entry in tensor.external_data}
    place = stated.get("location", "")
    if set(stated) - KEYS or not place:
        raise _refused(tensor, f"external data with the keys {sorted(stated)[:8]}")
    name = "/".join(_parts(tensor, place))
    if name not in opened:
        opened[name] = _open(tensor, root, name)
        stack.callback(os.close, opened[name])
    size = onnx_structure.size_bytes(tensor)
    start, length = _number(tensor, stated, "offset", 0), _number(tensor, stated, "length", size)
    have = os.fstat(opened[name]).st_size
    if length != size or start + length > have:
        raise _refused(tensor, f"bytes {start} to {start + length} of {name!r} ({have} bytes), {size} are needed")
    data = os.pread(opened[name], length, start)
    if len(data) != length:
        raise _refused(tensor, f"{name!r} ends early")
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    tensor.raw_data = data


def _parts(tensor: TensorProto, place: str) -> list[str]:
    parts = place.removeprefix("./").split("/")
    if "\\" in place or "\0" in place or any(part in ("", ".", "..") for part in parts):
        raise _refused(tensor, f"{place[:100]!r} is no plain path inside the model's folder")
    return parts


def _open(tensor: TensorProto, root: int, name: str) -> int:
    *folders, last = name.split("/")
    with ExitStack() as stack:
        try:
            for part in folders:
                root = os.open(part, DIRECTORY, dir_fd=root)
                stack.callback(os.close, root)
            descriptor = os.open(last, FILE, dir_fd=root)
        except OSError as error:
            raise _refused(tensor, f"{name!r}: {error.strerror} (links are not followed)") from error
    found = os.fstat(descriptor)
    reason = _unfit(found)
    if reason:
        os.close(descriptor)
        raise _refused(tensor, f"{name!r} {reason}")
    return descriptor


def _unfit(found: os.stat_result) -> str:
    """Why an open file is not read, or ''."""
    if not stat.S_ISREG(found.st_mode):
        return "is no plain file"
    if found.st_nlink != 1:
        return "has several names (hard links)"
    too_large = found.st_size > limits.LAYER_BYTES
    return f"has {found.st_size} bytes, {limits.LAYER_BYTES} are allowed" if too_large else ""


def _number(tensor: TensorProto, stated: dict[str, str], key: str, default: int) -> int:
    text = stated.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _refused(tensor, f"{key} {text[:40]!r} is no size")
    return int(text)


def _refused(tensor: Any, reason: str) -> SourceError:
    return SourceError(f"tensor {tensor.name!r} lies outside the file: {reason}", PLAIN)


def _digest(descriptor: int) -> str:
    found, place = hashlib.sha256(), 0
    while block := os.pread(descriptor, BLOCK_BYTES, place):
        found.update(block)
        place += len(block)
    return "sha256:" + found.hexdigest()
