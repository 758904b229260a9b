"""How close a candidate's outputs are to the source model's. Pure numpy.

>>> import numpy as np
>>> round(sqnr_db(np.ones(4), np.full(4, 1.01)))
40
"""

from __future__ import annotations

from typing import Final

import numpy as np

from outrider_compiler.data import Array

DB_MAX: Final = 200.0


def sqnr_db(reference: Array, got: Array) -> float:
    """Signal-to-quantization-noise ratio in dB, within ±`DB_MAX`; not a number in `got` gives −`DB_MAX`."""
    signal = np.asarray(reference, dtype=np.float64)
    noise = signal - np.asarray(got, dtype=np.float64)
    if not np.isfinite(noise).all():
        return -DB_MAX
    power, loss = float((signal**2).sum()), float((noise**2).sum())
    if loss == 0.0:
        return DB_MAX
    return float(np.clip(10 * np.log10(max(power, 1e-300) / loss), -DB_MAX, DB_MAX))
