"""The command line's words for preprocessing, read into a `Preprocessing`. Loads nothing heavy.

>>> read(scale="1/255", layout="NHWC:NCHW", normalise="0.485:0.456:0.406,0.229:0.224:0.225").layout
('NHWC', 'NCHW')
>>> read(resize="64x48").resize
(64, 48)
"""

from __future__ import annotations

import math
import re
from typing import Final

from outrider_compiler.errors import UsageError
from outrider_compiler.request import Preprocessing

NAMES: Final = ("window", "resize", "layout", "scale", "normalise", "preprocess_input")
RESIZE: Final = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})(?::(linear|nearest))?", re.ASCII)
LAYOUT: Final = re.compile(r"([A-Z]{2,8})(?::([A-Z]{2,8}))?", re.ASCII)


def read(
    *,
    window: int | None = None,
    resize: str | None = None,
    layout: str | None = None,
    scale: str | None = None,
    normalise: str | None = None,
    preprocess_input: str | None = None,
) -> Preprocessing:
    """What the options of `build` ask for; raises `UsageError` for a word that cannot be read."""
    height_width, mode = _resize(resize)
    return Preprocessing(
        window=window,
        resize=height_width,
        resize_mode=mode,
        layout=_layout(layout),
        scale=_scale(scale),
        normalise=_normalise(normalise),
        input=preprocess_input,
    )


def _resize(text: str | None) -> tuple[tuple[int, int] | None, str]:
    if text is None:
        return None, "linear"
    found = RESIZE.fullmatch(text)
    if found is None:
        raise UsageError(f"--resize {text!r} is not HEIGHTxWIDTH[:linear|nearest]")
    return (int(found[1]), int(found[2])), found[3] or "linear"


def _layout(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    found = LAYOUT.fullmatch(text)
    if found is None:
        raise UsageError(f"--layout {text!r} is not RAW:MODEL in capital letters", "For example NHWC:NCHW or NTC:NCT.")
    return found[1], found[2] or found[1]


def _scale(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    factor, _, offset = text.partition(",")
    return _number(factor, "--scale"), _number(offset, "--scale") if offset else 0.0


def _normalise(text: str | None) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2:
        raise UsageError(
            f"--normalise {text!r} is not MEAN,STD", "One number each, or one a channel: m1:m2:m3,s1:s2:s3."
        )
    mean, std = (tuple(_number(word, "--normalise") for word in part.split(":")) for part in parts)
    if min(std) <= 0:
        raise UsageError(f"--normalise {text!r}: a standard deviation is positive")
    return mean, std


def _number(text: str, option: str) -> float:
    """A number, or a ratio of two: `1/255`."""
    above, _, below = text.strip().partition("/")
    try:
        value = float(above) / float(below or "1")
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{option}: {text!r} is not a number")
    return value
