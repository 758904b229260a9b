"""Fitting a net: one thread, about a minute, the same result for the same seed.

Augmentation turns, shifts and stretches the image a little; nothing else. Weights are kept under the digest of the
files that made them, so that a changed net or recipe is fitted again.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from examples.bench.digits.data import Digits, Labels
from examples.bench.digits.nets import NETS, Net

SOURCES: Final = ("nets.py", "train.py")


@dataclass(frozen=True)
class Recipe:
    """How to fit. Turn and stretch are standard deviations; the shift is in halves of the image."""

    epochs: int
    rate: float
    batch: int = 32
    turn_rad: float = 0.12
    stretch_ratio: float = 0.08
    shift: float = 0.06


RECIPES: Final = {
    "plain": Recipe(epochs=30, rate=3e-3),
    "mobile": Recipe(epochs=40, rate=4e-3),
    "transformer": Recipe(epochs=26, rate=7e-4, batch=16, turn_rad=0.2, stretch_ratio=0.15, shift=0.1),
}


def fit(name: str, train: Digits, seed: int) -> Net:
    """Fit net `name`; returned in evaluation mode."""
    recipe = RECIPES[name]
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    dice = torch.Generator().manual_seed(seed)
    net, images, classes = NETS[name](), torch.from_numpy(train.x), torch.from_numpy(train.y)
    steps = recipe.epochs * math.ceil(len(classes) / recipe.batch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps)
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(classes), generator=dice).split(recipe.batch):
            loss = nn.functional.cross_entropy(net.logits(augmented(images[rows], recipe, dice)), classes[rows])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return net.eval()


def augmented(x: Tensor, recipe: Recipe, dice: torch.Generator) -> Tensor:
    """Images [n, 1, 32, 32] a little turned, stretched and shifted."""
    angle, wide, high, right, down = torch.randn(5, len(x), generator=dice)
    angle, wide, high = angle * recipe.turn_rad, 1 + wide * recipe.stretch_ratio, 1 + high * recipe.stretch_ratio
    first = torch.stack([angle.cos() * wide, -angle.sin() * high, right * recipe.shift], dim=1)
    second = torch.stack([angle.sin() * wide, angle.cos() * high, down * recipe.shift], dim=1)
    grid = nn.functional.affine_grid(torch.stack([first, second], dim=1), list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, align_corners=False)


def fitted(name: str, train: Digits, seed: int, folder: Path) -> Path:
    """The weights of net `name`, fitted unless `folder` holds them already."""
    path = folder / f"{name}-{seed}-{_digest(train)}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in fit(name, train, seed).state_dict().items()}, path)
    return path


def restored(name: str, weights: Path) -> Net:
    """The net with its weights, in evaluation mode."""
    net = NETS[name]()
    net.load_state_dict(load_file(weights))
    return net.eval()


def predicted(net: Net, digits: Digits) -> Labels:
    """Predicted classes [n]."""
    with torch.no_grad():
        answers = [net.logits(part).argmax(dim=1) for part in torch.from_numpy(digits.x).split(128)]
    return np.asarray(torch.cat(answers).numpy(), np.int64)


def accuracy(net: Net, digits: Digits) -> float:
    """Share of images that are predicted right."""
    return float((predicted(net, digits) == digits.y).mean())


def _digest(train: Digits) -> str:
    made_by = b"".join((Path(__file__).parent / name).read_bytes() for name in SOURCES)
    return hashlib.sha256(made_by + train.x.tobytes() + train.y.tobytes()).hexdigest()[:12]
