"""Calibration and evaluation sets from `.npz` files.

1. `x` (or `x:<input>` for each input), first axis samples; `y` holds the truth (`metrics` says what fits the task);
   `slice:<name>` holds for each sample to which part of the data it belongs.
2. Pickled arrays, numbers that are not finite and empty sets are refused.
3. No sample stands in both sets (compared by content).
4. An archive that unpacks to more than `UNPACKED_BYTES`, or an array whose header does not fit its bytes, is refused
   before memory is taken for it.
"""

from __future__ import annotations

import hashlib
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from outrider_compiler.digests import digest_of_file
from outrider_compiler.errors import DataError

ENDING: Final = ".npy"
UNPACKED_BYTES: Final = 4 << 30
# What numpy, zipfile and the decompressors raise for files that are no archives of arrays.
UNREADABLE: Final = (
    OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, NotImplementedError,
    RuntimeError, MemoryError, AttributeError, TypeError, LookupError, OverflowError, SyntaxError, tokenize.TokenError,
)  # fmt: skip
Array = NDArray[Any]
Feeds = dict[str, Array]
SLICE: Final = "slice:"


@dataclass(frozen=True)
class DataSet:
    """Named inputs with a common first axis; `y` [N, …] or None; `digest` of the file; `slices` by name, words [N]."""

    feeds: Feeds
    y: Array | None
    digest: str
    slices: dict[str, Array] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(next(iter(self.feeds.values())))

    def bound(self, inputs: tuple[str, ...]) -> DataSet:
        """Give a lone `x` the name of a lone input; raises `DataError` where names do not match."""
        feeds = {inputs[0]: self.feeds["x"]} if len(inputs) == 1 and set(self.feeds) == {"x"} else self.feeds
        if set(feeds) != set(inputs):
            raise DataError(f"the data holds {sorted(self.feeds)}, the model takes {sorted(inputs)}")
        return replace(self, feeds={name: feeds[name] for name in inputs})

    def part(self, start: int, stop: int) -> Feeds:
        """Samples start..stop−1."""
        return {name: value[start:stop] for name, value in self.feeds.items()}


def load(path: Path) -> DataSet:
    """Read an `.npz`; raises `DataError`."""
    arrays = _arrays(path)
    feeds = {name.removeprefix("x:"): value for name, value in arrays.items() if name == "x" or name.startswith("x:")}
    if not feeds:
        raise DataError(f"{path}: neither `x` nor `x:<input>` is there, only {sorted(arrays)}")
    lengths = {name: value.shape[:1] for name, value in arrays.items() if name == "y" or name.startswith(("x", SLICE))}
    if len(set(lengths.values())) != 1 or not next(iter(lengths.values()), ()) or next(iter(lengths.values())) == (0,):
        raise DataError(f"{path}: the first axes do not agree or are empty: {lengths}")
    for name, value in feeds.items():
        _check_values(path, name, value)
    return DataSet(feeds, _labels(path, arrays.get("y")), digest_of_file(path), _slices(path, arrays))


def _arrays(path: Path) -> Feeds:
    """The arrays of an archive, whose sizes are checked before anything is allocated."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = [item for item in archive.infolist() if item.filename.endswith(ENDING)]
            total = sum(item.file_size for item in members)
            if total > UNPACKED_BYTES:
                raise DataError(f"{path}: unpacks to {total} bytes, {UNPACKED_BYTES} are allowed", "Use fewer samples.")
            return {item.filename.removesuffix(ENDING): _array(path, archive, item) for item in members}
    except UNREADABLE as error:
        raise DataError(f"{path}: {str(error)[:200] or type(error).__name__}") from error


def _array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """[CMP-DAT-4] An array whose header promises exactly the bytes that are there."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise DataError(f"{path}: {member.filename} is of version {version} of the format")
        shape, _, dtype = readers[version](file)
        if dtype.hasobject:
            raise DataError(f"{path}: {member.filename} holds Python objects (a pickle)", "Save plain numbers.")
        promised, have = math.prod(int(n) for n in shape) * dtype.itemsize, member.file_size - file.tell()
    if promised != have or any(n < 0 for n in shape):
        raise DataError(f"{path}: {member.filename} of shape {shape} needs {promised} bytes, {have} are there")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _check_values(path: Path, name: str, value: Array) -> None:
    if not value.size:
        raise DataError(f"{path}: {name} of shape {value.shape} is empty")
    if value.dtype.kind not in "fiub":
        raise DataError(f"{path}: {name} has dtype {value.dtype}: numbers are needed")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise DataError(f"{path}: {name} holds values that are not finite")


def _labels(path: Path, y: Array | None) -> Array | None:
    if y is None:
        return None
    _check_values(path, "y", y)
    return y


def _slices(path: Path, arrays: Feeds) -> dict[str, Array]:
    found = {name.removeprefix(SLICE): value for name, value in arrays.items() if name.startswith(SLICE)}
    for name, value in found.items():
        if value.ndim != 1 or value.dtype.kind not in "iubU":
            raise DataError(f"{path}: {SLICE}{name} must be integers or words [N], not {value.dtype} {value.shape}")
    return {name: value.astype(str) for name, value in found.items()}


def check_disjoint(calibration: DataSet, evaluation: DataSet) -> None:
    """Raise `DataError` where a sample stands in both sets."""
    shared = _row_hashes(calibration) & _row_hashes(evaluation)
    if shared:
        raise DataError(
            f"{len(shared)} samples stand in both the calibration and the evaluation set",
            "Evaluate on samples that calibration has not seen; split by person or recording where there is one.",
        )


def _row_hashes(data: DataSet) -> set[bytes]:
    columns = [np.ascontiguousarray(data.feeds[name]).reshape(data.n, -1) for name in sorted(data.feeds)]
    return {hashlib.sha256(b"".join(column[row].tobytes() for column in columns)).digest() for row in range(data.n)}
