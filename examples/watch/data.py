"""The wrist recordings: ten people, both wrists, seven exercises, six channels at 50 Hz.

1. The file is found without importing its package, and opened only when its SHA-256 is the known one (it is a pickle).
2. A recording has one id everywhere: `p07-right-ABD` (person, wrist, exercise).
3. A window is 2 s (100 samples × 6 channels, float32); each recording gives 36, evenly spaced (0.5–1.4 s apart).
4. People have one role each, by seed: six train, two label later, two only evaluate.

>>> roles(0).train != roles(1).train
True
>>> recording_id(7, "right", "ABD")
'p07-right-ABD'

Source: seglearn 1.2.5 (`load_watch`), the study is arXiv:1802.01489.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.watch.errors import DataChangedError, DataMissingError

Windows = NDArray[np.float32]
Labels = NDArray[np.int64]

SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
CLASSES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")
SAMPLES = 100
WINDOWS = 36
PEOPLE = tuple(range(1, 11))
RIGHT, LEFT = "right", "left"


@dataclass(frozen=True)
class Recording:
    """One person doing one exercise with one wrist: `x` is [n, 6] float32."""

    person: int
    wrist: str
    klass: int
    x: Windows

    @property
    def id(self) -> str:
        return recording_id(self.person, self.wrist, CLASSES[self.klass])

    @property
    def windows(self) -> Windows:
        """[36, 100, 6] windows of 2 s, in the order of time."""
        hop = (len(self.x) - SAMPLES) // (WINDOWS - 1)
        return np.stack([self.x[i * hop : i * hop + SAMPLES] for i in range(WINDOWS)])


@dataclass(frozen=True)
class Roles:
    """Who does what; nobody is in two roles."""

    train: tuple[int, ...]
    label: tuple[int, ...]
    evaluate: tuple[int, ...]

    @property
    def held_out(self) -> tuple[int, ...]:
        """The four people whose devices stand in the fleet."""
        return tuple(sorted(self.label + self.evaluate))


@dataclass(frozen=True)
class Window:
    """One window on its way to a device: where it was taken from, and what it truly shows."""

    recording: str
    index: int
    klass: int
    x: Windows


def recording_id(person: int, wrist: str, exercise: str) -> str:
    """Name a recording, the same everywhere."""
    return f"p{person:02d}-{wrist}-{exercise}"


def roles(seed: int) -> Roles:
    """Deal the ten people to the three roles."""
    people = list(PEOPLE)
    random.Random(f"watch-{seed}").shuffle(people)
    return Roles(tuple(sorted(people[:6])), tuple(sorted(people[6:8])), tuple(sorted(people[8:])))


def data_file() -> Path:
    """Find the recordings' file without importing the package that ships it.

    Raises:
        DataMissingError: the package is not installed.
    """
    spec = importlib.util.find_spec("seglearn")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        path = Path(place) / "data" / "watch_dataset.npy"
        if path.is_file():
            return path
    raise DataMissingError("the package seglearn, which holds the recordings, is not installed")


def load(path: Path | None = None) -> list[Recording]:
    """Read all 140 recordings, after checking the file's digest.

    Raises:
        DataMissingError: the file is not there.
        DataChangedError: its SHA-256 is another one.
    """
    raw = (path or data_file()).read_bytes()
    if hashlib.sha256(raw).hexdigest() != SHA256:
        raise DataChangedError("the recordings' file has another SHA-256 than the one it was measured with")
    table = np.load(io.BytesIO(raw), allow_pickle=True).item()
    rows = zip(table["subject"], table["side"], table["y"], table["X"], strict=True)
    found = [Recording(int(p), RIGHT if s else LEFT, int(k), np.asarray(x, np.float32)) for p, s, k, x in rows]
    return sorted(found, key=lambda recording: recording.id)


def select(recordings: Iterable[Recording], people: Iterable[int], wrist: str) -> list[Recording]:
    """Return the recordings of some people's one wrist, in the order of their ids."""
    wanted = set(people)
    return [r for r in recordings if r.person in wanted and r.wrist == wrist]


def stack(recordings: Sequence[Recording]) -> tuple[Windows, Labels]:
    """Return all windows [n, 100, 6] and their classes [n]."""
    parts = [r.windows for r in recordings]
    labels = [np.full(len(part), r.klass, np.int64) for r, part in zip(recordings, parts, strict=True)]
    return np.concatenate(parts), np.concatenate(labels)


def interleave(recordings: Sequence[Recording]) -> list[Window]:
    """Take one window of each recording in turn, until all are used up: time moves on in each, nothing is looped."""
    columns = [[Window(r.id, i, r.klass, x) for i, x in enumerate(r.windows)] for r in recordings]
    return [window for row in zip_longest(*columns) for window in row if window is not None]
