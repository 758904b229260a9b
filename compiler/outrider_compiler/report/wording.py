"""Numbers as people read them: three or four digits and a unit, whatever the size.

>>> size(28968), time_us(12345.6), ratio(0.654), decibels(200.0)
('29.0 kB', '12.3 ms', '0.65×', 'exact')
>>> lost(0.0034, "accuracy"), lost(-0.01, "rmse")
('0.34 points', '−1.00 % of the spread of y')
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

SIZES: Final = ("B", "kB", "MB", "GB", "TB")
TIMES: Final = ("µs", "ms", "s")
PLAIN_MAX: Final = 1e5
EXACT_DB: Final = 200.0  # `quality.DB_MAX`
ERRORS: Final = frozenset({"rmse", "mae"})


def digits(value: float, places: int) -> str:
    """A number with `places` decimals; one too large or too small for that in powers of ten, a minus as such."""
    value = float(value) + 0.0  # no minus before a zero
    small = value != 0 and abs(value) < 0.5 * 10**-places
    text = f"{value:.3g}" if small or abs(value) >= PLAIN_MAX else f"{value:.{places}f}"
    return text.replace("-", "−")


def figure(value: float | None) -> str:
    """A metric's value."""
    return "–" if value is None else digits(value, 4)


def share(value: float) -> str:
    """A share of one as percent."""
    return f"{digits(value * 100, 0)} %"


def ratio(value: float) -> str:
    """How many times."""
    return f"{digits(value, 2)}×"


def decibels(value: float | None) -> str:
    """A ratio of powers; at the upper end the outputs are equal."""
    if value is None:
        return "–"
    return "exact" if value >= EXACT_DB else f"{digits(value, 1)} dB"


def size(count: float) -> str:
    """Bytes."""
    return _scaled(count, SIZES)


def time_us(value: float) -> str:
    """Microseconds."""
    return _scaled(value, TIMES)


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = min(int(math.log10(max(abs(value), 1.0)) / 3), len(units) - 1)
    scaled = value / 1000**step
    places = 0 if step == 0 and units is SIZES else max(0, 2 - int(math.log10(max(abs(scaled), 1.0))))
    return f"{digits(scaled, places)} {units[step]}"


def lost(drop: float, primary: str) -> str:
    """A loss of the primary figure (0.01 is one point)."""
    return f"{digits(drop * 100, 2)} {unit(primary)}"


def unit(primary: str) -> str:
    """Of a loss: an error's is told as a share of what no skill errs."""
    return "% of the spread of y" if primary in ERRORS else "points"


def short(text: str) -> str:
    """A round number without its zeros behind the point ("20.0 kB" is "20 kB")."""
    return re.sub(r"\.0+(?!\d)|(\.\d*?[1-9])0+(?!\d)", r"\1", text)


def plain(value: Any) -> str:
    """Any JSON value on one line, without its brackets."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {plain(item)}" for key, item in sorted(value.items()))
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    return str(value)


def reason(profile: dict[str, Any]) -> str:
    """Why, in short: where the reason repeats what candidates missed, its first words; the refusals stand below."""
    whole: str = profile["reason"]
    refused = [text for item in profile["candidates"] for text in item["refusals"] if text in whole]
    return f"{whole.partition(': ')[0]}; what each candidate missed stands below" if refused else whole


def words(name: str) -> str:
    """A key as words."""
    return name.replace("_", " ")
