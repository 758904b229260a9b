"""Any `preprocess` document, and raw samples for it: what the executor, the baked graph and a device are tried on."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from outrider_protocol.manifest import TensorSpec
from outrider_protocol.preprocess import (
    IMAGE_LAYOUTS,
    MODES,
    RAW_DTYPES,
    Layout,
    Normalise,
    Preprocess,
    Resize,
    Scale,
    Step,
    Window,
)

AXES = {2: ("NC",), 3: ("NTC", "NCT"), 4: IMAGE_LAYOUTS}
NUMBERS = st.floats(-300, 300, allow_nan=False).map(lambda value: float(np.float32(value)))


@st.composite
def preprocesses(draw: st.DrawFn) -> Preprocess:
    """A document of at least one step over an input of two to four axes."""
    rank = draw(st.integers(2, 4))
    raw = TensorSpec("x", draw(st.sampled_from(RAW_DTYPES)), (-1, *draw(st.tuples(*[st.integers(1, 9)] * (rank - 1)))))
    letters = draw(st.sampled_from(AXES[rank]))
    steps: list[Step] = []
    shape = raw.shape
    for make in (_window, _resize, _layout, _scale, _normalise):
        if draw(st.booleans()) or (make is _normalise and not steps):
            step = make(draw, shape, letters)
            if step is not None:
                steps.append(step)
                shape = step.after(shape)
    return Preprocess(raw, tuple(steps))


def _window(draw: st.DrawFn, shape: tuple[int, ...], letters: str) -> Step:
    return Window(draw(st.integers(1, shape[1])))


def _resize(draw: st.DrawFn, shape: tuple[int, ...], letters: str) -> Step | None:
    if letters not in IMAGE_LAYOUTS:
        return None
    sides = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    return Resize(*sides, draw(st.sampled_from(MODES)), letters)


def _layout(draw: st.DrawFn, shape: tuple[int, ...], letters: str) -> Step:
    return Layout(letters, "N" + "".join(draw(st.permutations(letters[1:]))))


def _scale(draw: st.DrawFn, shape: tuple[int, ...], letters: str) -> Step:
    return Scale(draw(NUMBERS.filter(bool)), draw(NUMBERS | st.just(0.0)))


def _normalise(draw: st.DrawFn, shape: tuple[int, ...], letters: str) -> Step:
    axis = draw(st.none() | st.integers(1, len(shape) - 1))
    deviations = NUMBERS.map(abs).filter(lambda value: value > 1e-3)

    def values(numbers: st.SearchStrategy[float]) -> tuple[float, ...]:
        count = 1 if axis is None or draw(st.booleans()) else shape[axis]
        return tuple(draw(st.lists(numbers, min_size=count, max_size=count)))

    return Normalise(values(NUMBERS), values(deviations), axis)


def raw_samples(document: Preprocess, n: int, seed: int = 0) -> np.ndarray:
    """`n` samples over most of what the raw dtype holds, within ±1000."""
    rng, dtype = np.random.default_rng(seed), np.dtype(document.raw.dtype)
    shape = (n, *document.raw.shape[1:])
    if dtype.kind == "f":
        return (rng.normal(size=shape) * 100).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(max(limits.min, -1000), min(limits.max, 1000), shape, endpoint=True).astype(dtype)
