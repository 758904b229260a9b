"""From options and data to the `preprocess` document, and from the document to the model's own input.

1. The raw dtype and shape are the calibration set's; the evaluation set's must be the same. float64 data counts as
   float32, as it does without preprocessing.
2. Channels are the axis that `--layout` calls C, without a layout the last one.
3. Whatever contradicts data or model is a `UsageError` that names the step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from outrider_compiler.data import Array, DataSet
from outrider_compiler.errors import DataError, UsageError
from outrider_compiler.preprocess.runner import prepared
from outrider_compiler.request import Preprocessing
from outrider_protocol.errors import MalformedError
from outrider_protocol.manifest import TensorSpec
from outrider_protocol.preprocess import (
    IMAGE_LAYOUTS,
    RAW_DTYPES,
    Layout,
    Normalise,
    Preprocess,
    Resize,
    Scale,
    Step,
    Window,
)

LONE: Final = "x"
EXAMPLE_ROWS: Final = 16


def document(options: Preprocessing, calibration: DataSet, evaluation: DataSet) -> Preprocess | None:
    """The document, under the data's own name of the input; None where nothing is asked. Raises `UsageError`."""
    if not options.asked:
        return None
    name = _feed(options, calibration)
    raw = _raw(name, calibration.feeds[name])
    if name not in evaluation.feeds or _raw(name, evaluation.feeds[name]) != raw:
        have = {key: f"{value.dtype}{list(value.shape[1:])}" for key, value in evaluation.feeds.items()}
        raise DataError(
            f"the calibration set's {name} is {raw.dtype}{list(raw.shape[1:])}, the evaluation set holds {have}",
            "Preprocessing is built for one raw type and shape: save both sets alike.",
        )
    try:
        return Preprocess(raw, tuple(_steps(options, raw.shape)))
    except MalformedError as error:
        raise UsageError(f"preprocessing of {name!r}: {error}", "--layout says what each axis is.") from error


def _feed(options: Preprocessing, data: DataSet) -> str:
    names = sorted(data.feeds)
    if options.input in data.feeds:
        return options.input
    if len(names) > 1 or (options.input and names != [LONE]):
        raise UsageError(f"which input is preprocessed? The data holds {names}", "Name one with --preprocess-input.")
    return names[0]


def _raw(name: str, values: Array) -> TensorSpec:
    dtype = "float32" if values.dtype.name == "float64" else values.dtype.name
    if dtype not in RAW_DTYPES:
        raise DataError(f"{name} has dtype {dtype}: raw inputs are one of {', '.join(RAW_DTYPES)}", "Save it as one.")
    return TensorSpec(name, dtype, (-1, *values.shape[1:]))


def _steps(options: Preprocessing, shape: tuple[int, ...]) -> list[Step]:
    source, target = options.layout or ("", "")
    steps: list[Step] = []
    if options.window is not None:
        if source[1:2] == "C":
            raise UsageError(f"--window takes steps of axis 1, which --layout {source} calls channels")
        steps.append(Window(options.window))
    if options.resize is not None:
        if source not in IMAGE_LAYOUTS:
            raise UsageError("--resize needs to know the axes", "Add --layout NHWC (or NHWC:NCHW, NCHW, …).")
        steps.append(Resize(*options.resize, options.resize_mode, source))
    if source != target or (len(source) != len(shape) and source):
        steps.append(Layout(source, target))
    if options.scale is not None:
        steps.append(Scale(*options.scale))
    if options.normalise is not None:
        steps.append(_normalise(*options.normalise, target, len(shape)))
    if not steps:
        raise UsageError(f"--layout {source} changes nothing", "Say RAW:MODEL, for example NHWC:NCHW.")
    return steps


def _normalise(mean: tuple[float, ...], std: tuple[float, ...], target: str, rank: int) -> Normalise:
    if len(mean) == len(std) == 1:
        return Normalise(mean, std)
    if target and "C" not in target:
        raise UsageError(f"--normalise has a value for each channel, --layout {target} names no channels (C)")
    return Normalise(mean, std, target.index("C") if target else rank - 1)


def example(asked: Preprocess | None, data: DataSet) -> DataSet:
    """Samples as the model itself takes them, for importers that trace it: some, where there is a document."""
    if asked is None:
        return data
    return replace(data, feeds=prepared(asked, data.part(0, EXAMPLE_ROWS)))


def bound(asked: Preprocess, inputs: tuple[TensorSpec, ...], name: str | None) -> Preprocess:
    """The document under the model's own name of the input; raises `UsageError` where it does not fit the model."""
    specs = {spec.name: spec for spec in inputs}
    name = name or (inputs[0].name if asked.raw.name == LONE and len(inputs) == 1 else asked.raw.name)
    if name not in specs:
        raise UsageError(f"the model has no input {name!r}, only {sorted(specs)}", "Name one with --preprocess-input.")
    spec = specs[name]
    if spec.dtype != "float32":
        raise UsageError(f"preprocessing gives float32, the model's input {name!r} takes {spec.dtype}")
    have = asked.prepared
    if len(have) != len(spec.shape) or any(w not in (-1, h) for h, w in zip(have[1:], spec.shape[1:], strict=True)):
        raise UsageError(
            f"preprocessing gives {list(have)}, the model's input {name!r} takes {list(spec.shape)}",
            f"Steps: {', '.join(step.kind for step in asked.steps)}, from {list(asked.raw.shape)}.",
        )
    return replace(asked, raw=replace(asked.raw, name=name))
