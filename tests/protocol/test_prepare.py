"""The executor of `preprocess` documents: docs/spec/preprocess.md."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_protocol.errors import MalformedError
from outrider_protocol.manifest import TensorSpec
from outrider_protocol.prepare import Executor, apply
from outrider_protocol.preprocess import Layout, Normalise, Preprocess, Resize, Scale, Window, ratio
from tests.protocol.documents import preprocesses, raw_samples


def slowly(document: Preprocess, sample: np.ndarray) -> np.ndarray:
    """One sample [1, …], each step as the table of docs/spec/preprocess.md says it, one number after the other."""
    value = sample
    for step in document.steps:
        if isinstance(step, Window):
            value = value[:, value.shape[1] - step.length :]
        elif isinstance(step, Resize):
            value = resized(step, value.astype(np.float32))
        elif isinstance(step, Layout):
            value = value.transpose([step.source.index(letter) for letter in step.target])
        elif isinstance(step, Scale):
            value = value.astype(np.float32) * np.float32(step.factor) + np.float32(step.offset)
        else:
            value = normalised(step, value.astype(np.float32))
    return value.astype(np.float32)


def resized(step: Resize, value: np.ndarray) -> np.ndarray:
    for axis, want in ((step.layout.index("H"), step.height), (step.layout.index("W"), step.width)):
        have = value.shape[axis]
        columns = np.moveaxis(value, axis, 0)
        centres = [(i + 0.5) * have / want - 0.5 for i in range(want)]
        if step.mode == "nearest":
            picked = [columns[min(max(int(np.ceil(at - 0.5)), 0), have - 1)] for at in centres]
        else:
            inside = [min(max(at, 0.0), have - 1.0) for at in centres]
            picked = [columns[int(at)] * (1 - at % 1) + columns[min(int(at) + 1, have - 1)] * (at % 1) for at in inside]
        value = np.moveaxis(np.stack(picked), 0, axis)
    return value


def normalised(step: Normalise, value: np.ndarray) -> np.ndarray:
    moved = value if step.axis is None else np.moveaxis(value, step.axis, -1)
    done = (moved - np.asarray(step.mean, np.float32)) / np.asarray(step.std, np.float32)
    return done if step.axis is None else np.moveaxis(done, -1, step.axis)


@given(preprocesses(), st.integers(0, 3))
def test_each_step_is_what_the_table_says(document: Preprocess, n: int) -> None:
    """PRE-RUN-1, PRE-RUN-2: a batch gives, sample by sample, what the definitions give; float32, input untouched."""
    x = raw_samples(document, n)
    before = x.copy()
    got = Executor(document)(x)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert got.shape == (n, *document.prepared[1:])
    assert np.array_equal(x, before)
    for row in range(n):
        expected = slowly(document, x[row : row + 1])
        size = scale_of(document, x)
        np.testing.assert_allclose(got[row : row + 1], expected, rtol=1e-5, atol=size * 1e-5)
        assert np.array_equal(got[row : row + 1], apply(document, x[row : row + 1]))


def scale_of(document: Preprocess, x: np.ndarray) -> float:
    """How large an intermediate value may be, relative to the smallest deviation that divides it."""
    size = float(np.abs(x.astype(np.float64)).max(initial=1.0))
    scale, normalise = document.step(Scale), document.step(Normalise)
    if scale:
        size = size * abs(scale.factor) + abs(scale.offset)
    return (size + max(map(abs, normalise.mean))) / min(normalise.std) if normalise else size


def test_without_a_resize_the_numbers_are_exact() -> None:
    """PRE-RUN-1: float32, step by step: the very bits of the formula."""
    raw = TensorSpec("x", "uint8", (-1, 2, 2, 3))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    document = Preprocess(raw, (Layout("NHWC", "NCHW"), Scale(1 / 255), Normalise(mean, std, 1)))
    x = raw_samples(document, 5)
    values = x.transpose(0, 3, 1, 2).astype(np.float32) * np.float32(1 / 255)
    columns = [np.asarray(v, np.float32)[None, :, None, None] for v in (mean, std)]
    assert np.array_equal(apply(document, x), (values - columns[0]) / columns[1])


@given(st.integers(1, 4096), st.integers(1, 4096))
def test_no_floor_loses_a_pixel(have: int, want: int) -> None:
    """PRE-RUN-1: the scale of a resized axis is the least float32 that is not below want ÷ have."""
    scale = np.float32(ratio(have, want))
    assert int(np.floor(np.float32(have) * scale)) == int(np.floor(have * float(scale))) == want
    assert float(np.nextafter(scale, np.float32(0))) * have < want


@pytest.mark.parametrize(
    "x",
    [np.zeros((1, 3, 2), np.int16), np.zeros((1, 2, 3), np.uint8), np.zeros((3, 2), np.uint8), np.zeros((), np.uint8)],
    ids=["dtype", "shape", "rank", "scalar"],
)
def test_other_input_is_refused(x: np.ndarray) -> None:
    """PRE-RUN-3: another dtype or shape than the raw one is refused, with both."""
    document = Preprocess(TensorSpec("x", "uint8", (-1, 3, 2)), (Scale(2.0),))
    with pytest.raises(MalformedError, match="uint8"):
        apply(document, x)


def test_values_that_are_not_finite_pass() -> None:
    """PRE-RUN-1: NaN and infinities go through to the model without a warning, as an engine passes them."""
    document = Preprocess(TensorSpec("x", "float32", (-1, 2, 2, 1)), (Resize(3, 3), Scale(1e38)))
    x = np.array([np.nan, np.inf, -np.inf, 1e30], np.float32).reshape(1, 2, 2, 1)
    assert not np.isfinite(apply(document, x)).all()
