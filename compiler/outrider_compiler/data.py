"""Calibration and evaluation sets from `.npz` files.

1. `x` (or `x:<input>` for each input), first axis samples; `y` holds the truth (`metrics` says what fits the task);
   `slice:<name>` holds for each sample to which part of the data it belongs.
2. Pickled arrays, numbers that are not finite and empty sets are refused.
3. No sample stands in both sets (compared by content).
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from outrider_compiler.digests import digest_of_file
from outrider_compiler.errors import DataError

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
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: not an .npz archive")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{path}: {error}") from error


def _check_values(path: Path, name: str, value: Array) -> None:
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
