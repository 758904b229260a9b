"""From a range of values to the step (scale) and the zero point of an 8-bit integer, and back to ONNX tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from outrider_compiler.candidates.storage import scales
from outrider_compiler.data import Array

if TYPE_CHECKING:
    from outrider_profiles import Int8

LEAST: Final = 1e-30  # a range of zeros still needs a step


@dataclass(frozen=True)
class Steps:
    """`value` ≈ (integer − `zero`) × `scale`; `zero` has the integer's dtype."""

    scale: Array
    zero: Array


def bounds(ranges: Any, name: str) -> tuple[float, float]:
    """Smallest and largest value of a tensor over the calibration set, widened to hold 0."""
    low, high = (float(np.asarray(value).reshape(-1)[0]) for value in ranges[name].range_value)
    return min(low, 0.0), max(high, 0.0)


def of_activation(low: float, high: float, int8: Int8) -> Steps:
    """Steps over a range; symmetric ones have the zero point 0."""
    least, most = (0, 255) if int8.activation == "u8" else (-128, 127)
    dtype = np.uint8 if int8.activation == "u8" else np.int8
    if int8.symmetric:
        return Steps(np.asarray(max(-low, high, LEAST) / most, np.float32), np.zeros((), dtype))
    scale = np.asarray(max(high - low, LEAST) / 255, np.float32)
    return Steps(scale, np.asarray(np.clip(np.rint(least - low / scale), least, most)).astype(dtype))


def of_columns(weight: Array, int8: Int8) -> tuple[Array, Steps]:
    """A weight [K, N] in integers with symmetric steps of each column (or of the whole)."""
    most = 64 if int8.reduce_range else 127
    scale = scales(weight, 1, most).reshape(-1)
    if not int8.per_channel:
        scale = np.full(1, scale.max(), np.float32)
    whole = np.clip(np.rint(weight / scale), -most, most)
    signed = int8.weight == "s8"
    zero = np.zeros(scale.shape, np.int8) if signed else np.full(scale.shape, 128, np.uint8)
    return (whole.astype(np.int8) if signed else (whole + 128).astype(np.uint8)), Steps(scale, zero)
