"""The digits: 1,797 images of 8×8, enlarged to 32×32, and who may learn, calibrate and judge.

1. The file is the one inside the scikit-learn package (`make setup-bench`); it is opened when its digest is the known
   one. scikit-learn itself is not imported.
2. Its labels repeat one sequence fourteen times: everyone who wrote filled in the same form of about 130 digits, and
   each copy starts with 0…9 twice or thrice. The package does not name writers (its page speaks of thirteen), but a
   form is one hand: `split` deals whole forms by seed, so that nobody judges who also taught.
3. Four parts that share no image: `train` and `calibration` from eight forms, `evaluation` from four, `held_out` from
   two. `by_image` deals single images instead, as most pages about this data do: its figures flatter.
"""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Labels = NDArray[np.int64]

SHA256: Final = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
ROOT: Final = Path(__file__).resolve().parents[3]
PLACES: Final = "lib*/python3*/site-packages/sklearn/datasets/data/digits.csv.gz"
CLASSES: Final = tuple("0123456789")
SIDE: Final = 32
GREYS: Final = 16.0
FORMS: Final = (0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667)
"""First image of each copy of the form."""
FORMS_TO_TEACH: Final = 8
FORMS_TO_JUDGE: Final = 4
CALIBRATION: Final = 256


class DigitsAbsentError(Exception):
    """The file of scikit-learn is not there, or is another one."""

    hint = "Run `make setup-bench` first."


@dataclass(frozen=True)
class Digits:
    """Images [n, 1, 32, 32] between 0 and 1, their classes [n], and each one's place in the file [n]."""

    x: Images
    y: Labels
    index: Labels

    def part(self, rows: Sequence[int]) -> Digits:
        """These rows, in this order."""
        chosen = np.asarray(rows, np.int64)
        return Digits(self.x[chosen], self.y[chosen], self.index[chosen])

    @property
    def no_skill(self) -> float:
        """Accuracy of always saying the most frequent class."""
        return float(np.bincount(self.y).max() / len(self.y))


@dataclass(frozen=True)
class Split:
    """Four parts without a common image."""

    train: Digits
    calibration: Digits
    evaluation: Digits
    held_out: Digits

    def write(self, folder: Path) -> None:
        """Leave `calibration.npz` (x) and `evaluation.npz`, `held_out.npz` (x, y)."""
        np.savez(folder / "calibration.npz", x=self.calibration.x)
        for name, part in (("evaluation", self.evaluation), ("held_out", self.held_out)):
            np.savez(folder / f"{name}.npz", x=part.x, y=part.y)


def find(environment: Path) -> Path:
    """The file inside an environment; raises `DigitsAbsentError`."""
    found = sorted(environment.glob(PLACES))
    if not found:
        raise DigitsAbsentError(f"{environment} holds no scikit-learn")
    return found[0]


def load(path: Path) -> Digits:
    """Read the file; raises `DigitsAbsentError`."""
    packed = path.read_bytes()
    if hashlib.sha256(packed).hexdigest() != SHA256:
        raise DigitsAbsentError(f"{path} is not the file that this bench knows")
    lines = gzip.decompress(packed).decode("ascii").splitlines()
    table: NDArray[Any] = np.array([[float(cell) for cell in line.split(",")] for line in lines])
    small = (table[:, :64].reshape(-1, 8, 8) / GREYS).astype(np.float32)
    return Digits(enlarged(small), table[:, 64].astype(np.int64), np.arange(len(table)))


def enlarged(small: Images) -> Images:
    """[n, 8, 8] → [n, 1, 32, 32], linear between the centres of the small image's pixels."""
    weights = _weights(small.shape[1], SIDE)
    large: Images = np.einsum("ai,nij,bj->nab", weights, small, weights)[:, None].astype(np.float32)
    return large


def _weights(have: int, want: int) -> Images:
    centres = np.clip((np.arange(want) + 0.5) * have / want - 0.5, 0, have - 1)
    near: Images = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(have)[None, :])).astype(np.float32)
    return near


def form_of(index: Labels) -> Labels:
    """Which copy of the form each image stands in."""
    return np.searchsorted(np.asarray(FORMS), index, side="right") - 1


def split(digits: Digits, seed: int) -> Split:
    """Whole forms by seed."""
    forms = list(range(len(FORMS)))
    random.Random(f"digits-{seed}").shuffle(forms)
    ends = FORMS_TO_TEACH, FORMS_TO_TEACH + FORMS_TO_JUDGE
    dealt = [forms[: ends[0]], forms[ends[0] : ends[1]], forms[ends[1] :]]
    form = form_of(digits.index)
    return _split([[row for row in range(len(form)) if form[row] in chosen] for chosen in dealt], digits, seed)


def by_image(digits: Digits, seed: int) -> Split:
    """Single images by seed, parts of the same sizes as `split`'s."""
    like = split(digits, seed)
    rows = list(range(len(digits.y)))
    random.Random(f"images-{seed}").shuffle(rows)
    ends = [len(like.train.y) + len(like.calibration.y), len(rows) - len(like.held_out.y)]
    return _split([rows[: ends[0]], rows[ends[0] : ends[1]], rows[ends[1] :]], digits, seed)


def _split(dealt: list[list[int]], digits: Digits, seed: int) -> Split:
    teach, judge, hold = dealt
    random.Random(f"calibration-{seed}").shuffle(teach)
    parts = teach[CALIBRATION:], teach[:CALIBRATION], judge, hold
    train, calibration, evaluation, held_out = (digits.part(rows) for rows in parts)
    return Split(train, calibration, evaluation, held_out)
