"""The demo's data: docs/spec/demo.md."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from examples.watch import data
from examples.watch.errors import DataChangedError
from examples.watch.train import EVALUATED, FITTED, slices


@pytest.fixture(scope="module")
def recordings() -> list[data.Recording]:
    """All of them."""
    return data.load()


def test_changed_file_is_not_opened(tmp_path: Path) -> None:
    """DEMO-DAT-1: one byte more, and the pickle is not read."""
    path = tmp_path / "watch.npy"
    path.write_bytes(data.data_file().read_bytes() + b"\0")
    with pytest.raises(DataChangedError):
        data.load(path)


@pytest.mark.parametrize("seed", range(6))
def test_one_role_each(seed: int) -> None:
    """DEMO-DAT-2: 6 + 2 + 2 people, nobody twice, the same again for the same seed."""
    dealt = data.roles(seed)
    assert [len(part) for part in (dealt.train, dealt.label, dealt.evaluate)] == [6, 2, 2]
    assert sorted(dealt.train + dealt.held_out) == list(data.PEOPLE)
    assert dealt == data.roles(seed)


def test_interleaved_and_never_looped(recordings: list[data.Recording]) -> None:
    """DEMO-DAT-3: seven recordings in turn; each one's windows in order, each window once."""
    windows = data.interleave(data.select(recordings, [8], data.RIGHT))
    assert len({(w.recording, w.index) for w in windows}) == len(windows) == 7 * data.WINDOWS
    assert len({w.recording for w in windows[:7]}) == 7
    for _, own in itertools.groupby(sorted(windows, key=lambda w: w.recording), key=lambda w: w.recording):
        assert [w.index for w in own] == list(range(data.WINDOWS))


def test_calibration_and_evaluation_are_disjoint(recordings: list[data.Recording]) -> None:
    """DEMO-DAT-4: by content, sample for sample."""
    chosen = data.select(recordings, data.roles(0).train, data.RIGHT)
    fitted, held = slices(chosen, 0, FITTED), slices(chosen, EVALUATED, data.WINDOWS)
    assert not {row.tobytes() for row in _samples(fitted.x)} & {row.tobytes() for row in _samples(held.x)}


def _samples(x: data.Windows) -> list[data.Windows]:
    """Rows that tell a moment of a recording: the six channels of one sample, constant ones left out."""
    return [row for window in x for row in window if np.abs(row).min() > 0]
