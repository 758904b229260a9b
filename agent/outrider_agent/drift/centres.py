"""The device's own class centres: where its baseline lies, instead of where the training people's data lay. Pure.

Rules (docs/spec/drift.md):

- People and places differ more than drift does, so distances are taken from the device's own baseline; the reference
  mean counts as `PRIOR_WINDOWS` windows in each class, and stands alone where the baseline has none.
- A baseline window is compared with the centre of the *others* (leave one out): it must not look closer than a window
  that comes later.
- A window that is not a number moves no centre.

>>> import numpy as np
>>> values, klass, means = np.full((10, 2), 4.0), np.zeros(10, dtype=np.int64), np.zeros((2, 2))
>>> own_centres(values, klass, means).tolist()
[[2.0, 2.0], [0.0, 0.0]]
"""

from __future__ import annotations

from typing import Final

import numpy as np

from outrider_agent.drift.scores import Classes, Floats

PRIOR_WINDOWS: Final = 10.0
NOT_A_NUMBER: Final = 1e30
"""What stands for a value that is not a finite number: farther than anything, and still a number."""


def own_centres(values: Floats, klass: Classes, means: Floats) -> Floats:
    """Centres [K, D] after a baseline of `values` [n, D] predicted as `klass` [n], from reference `means` [K, D]."""
    total, count = _sums(values, klass, len(means))
    return np.asarray((total + PRIOR_WINDOWS * means) / (count + PRIOR_WINDOWS)[:, None])


def others_centres(values: Floats, klass: Classes, means: Floats) -> Floats:
    """For each baseline window the centre of its class without it: [n, D]."""
    total, count = _sums(values, klass, len(means))
    usable = _usable(values)
    without = total[klass] - np.where(usable[:, None], values, 0.0)
    left = count[klass] - usable + PRIOR_WINDOWS
    return np.asarray((without + PRIOR_WINDOWS * means[klass]) / left[:, None])


def _usable(values: Floats) -> Classes:
    return np.asarray((np.abs(values) < NOT_A_NUMBER).all(axis=1), dtype=np.int64)


def _sums(values: Floats, klass: Classes, classes: int) -> tuple[Floats, Floats]:
    total, count = np.zeros((classes, values.shape[1])), np.zeros(classes)
    rows = _usable(values) == 1
    np.add.at(total, klass[rows], values[rows])
    np.add.at(count, klass[rows], 1.0)
    return total, count
