"""Calibration and evaluation sets."""

from __future__ import annotations

import os
import zipfile
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


def npy(header: str, values: bytes = b"") -> bytes:
    """An array file with any header."""
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin-1") + values


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}", r"needs 4000000000000 bytes, 16 are"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 0)}", r"needs 0 bytes, 16 are there"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", "Python objects"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4)}", r"-1"),
        ("{'descr': '<f4', 'shape': __import__('os')}", "."),
        ("(" * 100, "."),
    ],
    ids=["huge", "huge-empty", "pickle", "negative", "code", "nested"],
)
def test_headers_are_checked_before_memory_is_taken(tmp_path: Path, header: str, said: str) -> None:
    """CMP-DAT-4: what a header promises must be there; nothing in it is run."""
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("x.npy", npy(header, b"\0" * 16))
    with pytest.raises(DataError, match=said) as caught:
        data.load(tmp_path / "set.npz")
    assert "set.npz" in str(caught.value)


def test_an_array_without_values_is_refused(tmp_path: Path) -> None:
    """CMP-DAT-4: a first axis of any length over nothing is refused at once."""
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("x.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 0)}"))
    with pytest.raises(DataError, match=r"empty|too big"):
        data.load(tmp_path / "set.npz")


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMP-DAT-4: an archive that unpacks beyond the limit is refused unread."""
    monkeypatch.setattr(data, "UNPACKED_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "set.npz", x=np.zeros((4, 1 << 20), np.uint8))
    assert (tmp_path / "set.npz").stat().st_size < 10_000
    with pytest.raises(DataError, match=r"unpacks to 41944\d\d bytes"):
        data.load(tmp_path / "set.npz")


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    """CMP-DAT-1: a pipe, a folder and nothing are refused at once."""
    os.mkfifo(tmp_path / "pipe.npz")
    for name in ("pipe.npz", ".", "gone.npz"):
        with pytest.raises(DataError, match="no such file"):
            data.load(tmp_path / name)
