"""The demo's story, as far as it can be shown without telling it: docs/spec/demo.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from examples.watch.checker.__main__ import CLAIMS
from examples.watch.data import load, select
from examples.watch.fit import MIRROR, Recipe, fit
from examples.watch.model import WatchNet
from examples.watch.story import saboteur
from examples.watch.story.plan import EXACT, FAST, Plan
from examples.watch.story.releases import flipped
from examples.watch.train import Labelled, shuffled, slices


def test_every_claim_can_be_broken() -> None:
    """DEMO-BRK-1: the checker's claims, the saboteur's and their descriptions are the same."""
    assert tuple(CLAIMS) == saboteur.CLAIMS == tuple(saboteur.WHAT)


@pytest.mark.parametrize(("claim", "board"), [("D2", FAST), ("D3", EXACT)])
def test_board_without_int8(tmp_path: Path, claim: str, board: str) -> None:
    """DEMO-BRK-1: the changed board is a file that the loader takes, with fp32 alone."""
    from outrider_profiles import load as load_profile

    paths = saboteur.Saboteur(Plan(tmp_path, 0, claim)).profiles()
    changed = load_profile(next(path for path in paths if path.endswith(".toml")))
    assert (changed.name, changed.precisions) == (board, ("fp32",))


def test_whole_runs_break_nothing(tmp_path: Path) -> None:
    """DEMO-BRK-1: without BREAK every answer of the saboteur is the honest one."""
    honest = saboteur.Saboteur(Plan(tmp_path, 0))
    assert honest.canary() == 2
    assert not honest.left_too_early()
    assert honest.sampled() == frozenset(Plan(tmp_path, 0).roles.label)


def test_one_bit() -> None:
    """DEMO-BRK-1: a tampered file has the same length and one other bit."""
    before = bytes(range(100))
    after = flipped(before)
    assert len(after) == len(before)
    assert sum((a ^ b).bit_count() for a, b in zip(before, after, strict=True)) == 1


def test_network() -> None:
    """DEMO-FIT-1: size, names of what it gives, normalisation inside."""
    net = WatchNet().eval()
    assert 22_000 < sum(p.numel() for p in net.parameters()) < 28_000
    probabilities, embedding = net(torch.zeros(3, 100, 6))
    assert probabilities.shape == (3, 7)
    assert embedding.shape == (3, 64)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(3))


def test_fit_is_repeatable() -> None:
    """DEMO-FIT-1: the same seed gives the same network."""
    some = slices(select(load(), [1], "right"), 0, 4)
    first, second = (fit(some.x, some.y, Recipe(3, epochs=1)).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_shuffled_labels_have_no_fixed_point() -> None:
    """DEMO-BRK-1: every class gets another one's name."""
    for seed in range(5):
        names = shuffled(seed)
        assert sorted(names) == list(range(7))
        assert all(name != k for k, name in enumerate(names))


def test_mirrored_twice_is_the_same() -> None:
    """DEMO-FIT-1: the mirror only changes signs."""
    x = np.random.default_rng(0).normal(size=(2, 100, 6)).astype(np.float32)
    one = Labelled(x, np.zeros(2, np.int64))
    assert np.array_equal(one.mirrored.mirrored.x, x)
    assert set(MIRROR) == {-1.0, 1.0}
