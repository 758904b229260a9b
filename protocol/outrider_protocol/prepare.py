"""Executes a `preprocess` document: raw samples in, what the model takes out. The compiler and a device run this code.

1. Arithmetic is float32, step by step in the document's order, over the whole batch at once; the result is float32.
2. A resized axis is read where ONNX's Resize reads it (half-pixel centres, float32 coordinates, ties to the lower).
3. numpy is loaded where an `Executor` is made: the supervisor, which reads manifests, never loads it.

>>> import numpy as np
>>> from outrider_protocol.manifest import TensorSpec
>>> from outrider_protocol.preprocess import Layout, Scale
>>> document = Preprocess(TensorSpec("x", "uint8", (-1, 1, 1, 2)), (Layout("NHWC", "NCHW"), Scale(1 / 255)))
>>> apply(document, np.array([[[[0, 255]]]], np.uint8)).tolist()
[[[[0.0]], [[1.0]]]]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outrider_protocol.errors import MalformedError
from outrider_protocol.preprocess import Layout, Normalise, Preprocess, Resize, Scale, Shape, Window, ratio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Floats = NDArray[np.float32]


def apply(document: Preprocess, array: Array) -> Floats:
    """Raw samples [N, …] as the model takes them; raises `MalformedError`. For many calls make an `Executor`."""
    return Executor(document)(array)


class Executor:
    """One document made ready: constants are computed once, a call works on whole arrays."""

    def __init__(self, document: Preprocess) -> None:
        import numpy as np

        self._np, self._raw = np, document.raw
        self._dtype, self._shape = np.dtype(document.raw.dtype), document.raw.shape[1:]
        window, resize, layout = document.step(Window), document.step(Resize), document.step(Layout)
        self._first = self._shape[0] - window.length if window else 0
        before = window.after(document.raw.shape) if window else document.raw.shape
        self._resized = Resized(resize, before) if resize else None
        self._permutation = layout.permutation if layout else None
        self._scale, self._offset = _scale(document.step(Scale))
        self._mean, self._std = _columns(document.step(Normalise), len(document.prepared))

    def __call__(self, array: Array) -> Floats:
        """A new array in C order; `array` is not changed. Raises `MalformedError` for another dtype or shape."""
        if array.dtype != self._dtype or not array.ndim or array.shape[1:] != self._shape:
            have = f"{array.dtype} {list(array.shape)}"
            raise MalformedError(f"input {self._raw.name!r}: {have} where {self._raw.dtype} {self._raw.shape} is taken")
        value = array[:, self._first :] if self._first else array
        with self._np.errstate(over="ignore", invalid="ignore"):
            if self._resized is not None:
                value = self._resized(value)
            if self._permutation is not None:
                value = value.transpose(self._permutation)
            own = value.astype(self._np.float32, order="C", copy=self._resized is None)
            return self._arithmetic(own)

    def _arithmetic(self, own: Floats) -> Floats:
        if self._scale is not None:
            own *= self._scale
        if self._offset is not None:
            own += self._offset
        if self._mean is not None and self._std is not None:
            own -= self._mean
            own /= self._std
        return own


def _scale(step: Scale | None) -> tuple[np.float32 | None, np.float32 | None]:
    import numpy as np

    if step is None:
        return None, None
    return np.float32(step.factor), np.float32(step.offset) if step.offset else None


def _columns(step: Normalise | None, rank: int) -> tuple[Floats | None, Floats | None]:
    import numpy as np

    if step is None:
        return None, None
    mean, std = (np.asarray(values, np.float32).reshape(step.column(values, rank)) for values in (step.mean, step.std))
    return mean, std


class Resized:
    """`Resize` of inputs of one shape: one axis after the other, by gathering; the result is a new array."""

    def __init__(self, step: Resize, shape: Shape) -> None:
        at = {axis: _coordinates(shape[axis], want) for axis, want in step.sides.items()}
        if step.mode == "nearest":
            self._nearest = [(axis, _nearest(where, shape[axis])) for axis, where in at.items()]
            self._linear = []
        else:
            self._nearest = []
            self._linear = [(axis, *_between(where, axis, shape)) for axis, where in at.items()]

    def __call__(self, value: Array) -> Array:
        for axis, index in self._nearest:
            value = value.take(index, axis)
        for axis, low, high, weight in self._linear:
            near, far = (value.take(index, axis).astype(weight.dtype, copy=False) for index in (low, high))
            near *= 1 - weight
            far *= weight
            near += far
            value = near
        return value


def _coordinates(have: int, want: int) -> Floats:
    """Where the centre of each new pixel lies among the old ones: [want], computed as ONNX's `half_pixel`."""
    import numpy as np

    half = np.float32(0.5)
    centres: Floats = (np.arange(want, dtype=np.float32) + half) / np.float32(ratio(have, want)) - half
    return centres


def _nearest(at: Floats, have: int) -> Array:
    """The old pixel of each new one, the lower of two that are equally near."""
    import numpy as np

    index: Array = np.clip(np.ceil(at - np.float32(0.5)).astype(np.intp), 0, have - 1)
    return index


def _between(at: Floats, axis: int, shape: Shape) -> tuple[Array, Array, Floats]:
    """Lower and upper neighbour of each new pixel, and the upper one's weight, shaped to broadcast along `axis`."""
    import numpy as np

    inside = np.clip(at, 0, shape[axis] - 1)
    low = inside.astype(np.intp)
    weight = (inside - low).astype(np.float32).reshape([len(at) if i == axis else 1 for i in range(len(shape))])
    return low, np.minimum(low + 1, shape[axis] - 1), weight
