"""What is done to a raw sample before the model sees it: the `preprocess` layer of an artifact.

1. One named input. Its raw dtype and shape stand in the document: callers and golden vectors speak raw.
2. Steps of a closed set, each at most once, in one order: window → resize → layout → scale → normalise.
3. An unknown step, or an unknown field of a step, is refused: what is not known here would change every answer.
4. A document whose steps do not fit its input does not exist: making one raises `MalformedError`.
5. Nothing here touches an array: `prepare` executes a document.

>>> document = Preprocess(TensorSpec("x", "uint8", (-1, 32, 32, 3)), (Layout("NHWC", "NCHW"), Scale(1 / 255)))
>>> document.prepared
(-1, 3, 32, 32)
>>> Preprocess.decode(document.encode()) == document
True
>>> Preprocess(document.raw, (Window(40),))
Traceback (most recent call last):
    ...
outrider_protocol.errors.MalformedError: window: 40 steps of an axis of 32
"""

from __future__ import annotations

import math
import struct
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, Final, TypeVar

from outrider_protocol import canonical, limits
from outrider_protocol.errors import MalformedError, UnsupportedError
from outrider_protocol.fields import VERSION, Fields, finite
from outrider_protocol.manifest import TensorSpec

Shape = tuple[int, ...]
RAW_DTYPES: Final = ("uint8", "int8", "int16", "int32", "float16", "float32")
MODES: Final = ("linear", "nearest")
IMAGE_LAYOUTS: Final = ("NHWC", "NCHW")
RANK_MAX: Final = 8


@dataclass(frozen=True)
class Window:
    """The last `length` steps of axis 1."""

    kind: ClassVar[str] = "window"
    length: int

    @classmethod
    def read(cls, fields: Fields) -> Window:
        """Read the JSON form."""
        return cls(fields.integer("length", low=1))

    def after(self, shape: Shape) -> Shape:
        """The shape that comes out; raises `MalformedError`."""
        if not 1 <= self.length <= shape[1]:
            raise MalformedError(f"window: {self.length} steps of an axis of {shape[1]}")
        return (shape[0], self.length, *shape[2:])


@dataclass(frozen=True)
class Resize:
    """Images of another size: half-pixel centres, edges repeated, no smoothing before shrinking."""

    kind: ClassVar[str] = "resize"
    height: int
    width: int
    mode: str = "linear"
    layout: str = "NHWC"

    @classmethod
    def read(cls, fields: Fields) -> Resize:
        """Read the JSON form."""
        height, width = fields.integer("height", low=1), fields.integer("width", low=1)
        return cls(height, width, fields.text("mode", limit=16), fields.text("layout", limit=16))

    @property
    def sides(self) -> dict[int, int]:
        """Axis → its new length."""
        return {self.layout.index("H"): self.height, self.layout.index("W"): self.width}

    def after(self, shape: Shape) -> Shape:
        """The shape that comes out; raises `MalformedError`."""
        if self.mode not in MODES or self.layout not in IMAGE_LAYOUTS:
            raise MalformedError(f"resize: mode {self.mode!r} of {MODES}, layout {self.layout!r} of {IMAGE_LAYOUTS}")
        if len(shape) != len(self.layout) or min(self.height, self.width) < 1:
            raise MalformedError(f"resize: {self.layout} to {self.height}x{self.width}, the input has {list(shape)}")
        return tuple(self.sides.get(axis, size) for axis, size in enumerate(shape))


@dataclass(frozen=True)
class Layout:
    """Axes in another order: one letter an axis, `N` (samples) first in both."""

    kind: ClassVar[str] = "layout"
    source: str
    target: str

    @classmethod
    def read(cls, fields: Fields) -> Layout:
        """Read the JSON form."""
        return cls(fields.text("source", limit=16), fields.text("target", limit=16))

    @property
    def permutation(self) -> Shape:
        """Where each axis of the result comes from."""
        return tuple(self.source.index(letter) for letter in self.target)

    def after(self, shape: Shape) -> Shape:
        """The shape that comes out; raises `MalformedError`."""
        letters = self.source.isascii() and self.source.isalpha() and self.source.isupper()
        if not letters or len(set(self.source)) != len(self.source) or sorted(self.source) != sorted(self.target):
            raise MalformedError(
                f"layout: {self.source[:16]!r} to {self.target[:16]!r} is no order of the same letters"
            )
        if not self.source[0] == self.target[0] == "N":
            raise MalformedError(f"layout: {self.source} to {self.target}: samples (N) stay first")
        if len(self.source) != len(shape):
            raise MalformedError(f"layout: {self.source} names {len(self.source)} axes, the input has {len(shape)}")
        return tuple(shape[axis] for axis in self.permutation)


@dataclass(frozen=True)
class Scale:
    """value × `factor` + `offset`."""

    kind: ClassVar[str] = "scale"
    factor: float
    offset: float = 0.0

    @classmethod
    def read(cls, fields: Fields) -> Scale:
        """Read the JSON form."""
        return cls(fields.number("factor"), fields.number("offset"))

    def after(self, shape: Shape) -> Shape:
        """The shape that comes out; raises `MalformedError`."""
        if single(self.factor, "scale: factor") == 0:
            raise MalformedError(f"scale: a factor of {self.factor} is zero in float32")
        single(self.offset, "scale: offset")
        return shape


@dataclass(frozen=True)
class Normalise:
    """(value − `mean`) ÷ `std`; each one number, or one for each index of `axis`, which is None where both are one."""

    kind: ClassVar[str] = "normalise"
    mean: tuple[float, ...]
    std: tuple[float, ...]
    axis: int | None = None

    @classmethod
    def read(cls, fields: Fields) -> Normalise:
        """Read the JSON form."""
        axis = None if fields.value.get("axis") is None else fields.integer("axis", low=1, high=RANK_MAX)
        return cls(_numbers(fields, "mean"), _numbers(fields, "std"), axis)

    def after(self, shape: Shape) -> Shape:
        """The shape that comes out; raises `MalformedError`."""
        counts = {len(self.mean), len(self.std)}
        if self.axis is not None and not 1 <= self.axis < len(shape):
            raise MalformedError(f"normalise: axis {self.axis} of an input of {len(shape)} axes")
        allowed = {1} if self.axis is None else {1, shape[self.axis]}
        if not counts <= allowed or max(counts) > limits.PREPROCESS_CHANNELS:
            raise MalformedError(
                f"normalise: {len(self.mean)} means, {len(self.std)} deviations, axis {self.axis} of {list(shape)}"
            )
        for value in self.mean:
            single(value, "normalise: mean")
        if not all(single(value, "normalise: std") > 0 for value in self.std):
            raise MalformedError("normalise: a standard deviation is not positive in float32")
        return shape

    def column(self, values: tuple[float, ...], rank: int) -> Shape:
        """The shape in which `mean` or `std` broadcasts over an input of `rank` axes."""
        sizes = [1] * rank
        if self.axis is not None:
            sizes[self.axis] = len(values)
        return tuple(sizes)


S = TypeVar("S", Window, Resize, Layout, Scale, Normalise)
Step = Window | Resize | Layout | Scale | Normalise
STEPS: Final[dict[str, type[Step]]] = {kind.kind: kind for kind in (Window, Resize, Layout, Scale, Normalise)}
"""By name, in the order of application."""


@dataclass(frozen=True)
class Preprocess:
    """The layer: `raw` is the input as callers give it (name, dtype, shape with −1 first); `steps` in their order."""

    raw: TensorSpec
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        _check_raw(self.raw)
        order = [list(STEPS).index(step.kind) for step in self.steps]
        if not order or order != sorted(set(order)):
            raise MalformedError(f"steps {[step.kind for step in self.steps]}: each once, in the order {list(STEPS)}")
        self.shapes()
        resize, layout = self.step(Resize), self.step(Layout)
        if resize and layout and resize.layout != layout.source:
            raise MalformedError(f"resize of {resize.layout}, then layout from {layout.source}")

    def shapes(self) -> list[Shape]:
        """The raw shape, then the shape after each step."""
        shapes = [self.raw.shape]
        for step in self.steps:
            shapes.append(step.after(shapes[-1]))
            _check_size(step.kind, shapes[-1])
        return shapes

    @property
    def prepared(self) -> Shape:
        """The shape that the model gets."""
        return self.shapes()[-1]

    def step(self, kind: type[S]) -> S | None:
        """The step of that class."""
        return next((step for step in self.steps if isinstance(step, kind)), None)

    def encode(self) -> bytes:
        """Canonical bytes."""
        steps = [{"step": step.kind, **asdict(step)} for step in self.steps]
        raw = {"name": self.raw.name, "dtype": self.raw.dtype, "shape": list(self.raw.shape)}
        return canonical.encode({"v": VERSION, "input": raw, "steps": steps})

    @classmethod
    def decode(cls, data: bytes) -> Preprocess:
        """Parse a layer whose digest was verified; raises `MalformedError` or `UnsupportedError`."""
        document = Fields(canonical.decode(data, limits.PREPROCESS_BYTES, "preprocess"), "preprocess")
        document.versioned(frozenset({"v", "input", "steps"}))
        return cls(TensorSpec.read(document.object("input")), tuple(map(_step, document.objects("steps"))))


def _check_raw(raw: TensorSpec) -> None:
    if not raw.name or raw.dtype not in RAW_DTYPES:
        raise MalformedError(f"raw input {raw.name!r} of {raw.dtype}: a name, and one of {', '.join(RAW_DTYPES)}")
    if not 2 <= len(raw.shape) <= RANK_MAX or raw.shape[0] != -1 or min(raw.shape[1:]) < 1:
        raise MalformedError(f"raw input {raw.name!r} of shape {list(raw.shape)}: −1, then 1 to 7 lengths")
    _check_size("raw input", raw.shape)


def _step(item: Fields) -> Step:
    name = item.text("step", limit=32)
    if name not in STEPS:
        raise UnsupportedError(f"{item.what}: the step {name!r} is not known here")
    kind = STEPS[name]
    unknown = sorted(set(item.value) - {"step", *(field.name for field in fields(kind))})
    if unknown:
        raise UnsupportedError(f"{item.what}: {name} with {unknown[0][:40]!r} is not known here")
    return kind.read(item)


def _numbers(item: Fields, name: str) -> tuple[float, ...]:
    values = item.list(name)
    if not 1 <= len(values) <= limits.PREPROCESS_CHANNELS:
        raise MalformedError(f"{item.what}.{name}: 1 to {limits.PREPROCESS_CHANNELS} numbers are expected")
    return tuple(finite(value, f"{item.what}.{name}") for value in values)


def _check_size(what: str, shape: Shape) -> None:
    if math.prod(shape[1:]) > limits.SAMPLE_VALUES:
        raise MalformedError(f"{what}: {list(shape)} holds more than {limits.SAMPLE_VALUES} values a sample")


def single(value: float, what: str) -> float:
    """The nearest float32; raises `MalformedError` where there is none that is finite."""
    try:
        (nearest,) = struct.unpack("<f", struct.pack("<f", finite(value, what)))
    except OverflowError:
        raise MalformedError(f"{what} {value} does not fit float32") from None
    return float(nearest)


def ratio(have: int, want: int) -> float:
    """Scale of a resized axis: `want` ÷ `have` as float32, rounded up, so that no engine's floor loses a pixel."""
    nearest = single(want / have, "resize: ratio")
    if nearest * have >= want:
        return nearest
    (bits,) = struct.unpack("<I", struct.pack("<f", nearest))
    return float(struct.unpack("<f", struct.pack("<I", bits + 1))[0])
