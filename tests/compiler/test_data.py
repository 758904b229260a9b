"""Calibration and evaluation sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from outrider_compiler import data
from outrider_compiler.errors import DataError

X = np.ones((4, 3), np.float32)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"z": X}, "neither `x` nor"),
        ({"x": X, "y": np.zeros(3, np.int64)}, "first axes do not agree"),
        ({"x": X[:0]}, "empty"),
        ({"x": X * np.nan}, "not finite"),
        ({"x": np.array(["a", "b"])}, "numbers are needed"),
        ({"x": X, "y": np.full(4, np.inf)}, "y holds values that are not finite"),
        ({"x": X, "slice:site": np.zeros((4, 2), np.int64)}, "slice:site must be integers or words"),
        ({"x": X, "slice:site": np.array(["a"])}, "first axes do not agree"),
        ({"x": np.array([{"a": 1}], dtype=object)}, "pickle"),
    ],
)
def test_unusable_data_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    """CMP-DAT-1: what cannot be calibrated or judged with is refused with the reason."""
    np.savez(tmp_path / "set.npz", **arrays)  # type: ignore[arg-type]  # numpy types the names as keyword flags
    with pytest.raises(DataError, match=said):
        data.load(tmp_path / "set.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY\x01\x00"])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    """CMP-DAT-1: a damaged file is a `DataError`."""
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(DataError):
        data.load(tmp_path / "set.npz")


def test_inputs_are_bound_by_name(tmp_path: Path) -> None:
    """CMP-DAT-2: a lone `x` goes to a lone input, `x:<name>` to the input of that name, nothing else fits."""
    np.savez(tmp_path / "one.npz", x=X)
    np.savez(tmp_path / "two.npz", **{"x:left": X, "x:right": X})  # type: ignore[arg-type]  # as above
    assert set(data.load(tmp_path / "one.npz").bound(("image",)).feeds) == {"image"}
    assert set(data.load(tmp_path / "two.npz").bound(("right", "left")).feeds) == {"left", "right"}
    with pytest.raises(DataError, match="the model takes"):
        data.load(tmp_path / "two.npz").bound(("left", "middle"))
