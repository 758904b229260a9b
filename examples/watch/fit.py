"""Fitting the network: one thread, about four seconds, the same result for the same seed.

1. Normalisation is taken from the windows that are fitted, and becomes part of the network.
2. Augmentation turns the watch a little on the wrist and changes the speed of turning; nothing else.
3. `mirrored` shows half of the windows as the other wrist would have recorded them: the sign of the axis along the arm
   and of the two rotations across it changes. Which signs was found on the six training people alone (`MIRROR`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from examples.watch.data import CHANNELS, Labels, Windows
from examples.watch.model import WatchNet

MIRROR = (-1.0, 1.0, 1.0, 1.0, -1.0, -1.0)
"""Signs of ax, ay, az, wx, wy, wz on the other wrist: of all 64 choices the best on training people, for seeds 0..3."""


@dataclass(frozen=True)
class Recipe:
    """How to fit; `turn_rad` is the standard deviation of the augmentation's turn about each axis."""

    seed: int
    mirrored: bool = False
    epochs: int = 12
    batch: int = 64
    rate: float = 5e-3
    turn_rad: float = 0.2
    speed_ratio: float = 0.15


def fit(x: Windows, y: Labels, recipe: Recipe) -> WatchNet:
    """Fit the network to windows `x` [n, 100, 6] of classes `y` [n]; returned in evaluation mode."""
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    dice = torch.Generator().manual_seed(recipe.seed)
    net, windows, classes = WatchNet(), torch.from_numpy(x), torch.from_numpy(y)
    net.mean.copy_(windows.mean((0, 1)).view(1, len(CHANNELS), 1))
    net.scale.copy_(1.0 / windows.std((0, 1)).view(1, len(CHANNELS), 1))
    steps = recipe.epochs * -(-len(x) // recipe.batch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps)
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(x), generator=dice).split(recipe.batch):
            shown = augment(windows[rows], recipe, dice)
            loss = nn.functional.cross_entropy(net.logits(shown), classes[rows], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            schedule.step()
    return net.eval()


def augment(x: Tensor, recipe: Recipe, dice: torch.Generator) -> Tensor:
    """Windows [n, 100, 6] as a slightly turned watch, on either wrist where `mirrored`, would have recorded them."""
    if recipe.mirrored:
        other = torch.rand(len(x), 1, 1, generator=dice) < 0.5
        x = torch.where(other, x * torch.tensor(MIRROR), x)
    turn = _rotations(torch.randn(len(x), 3, generator=dice) * recipe.turn_rad)
    speed = 1.0 + recipe.speed_ratio * torch.randn(len(x), 1, 1, generator=dice)
    acceleration = torch.einsum("nij,ntj->nti", turn, x[..., :3])
    rotation = torch.einsum("nij,ntj->nti", turn, x[..., 3:]) * speed
    return torch.cat([acceleration, rotation], dim=2)


def predict(net: WatchNet, x: Windows) -> Labels:
    """Predicted classes [n]."""
    with torch.no_grad():
        return np.asarray(net.logits(torch.from_numpy(x)).argmax(dim=1).numpy(), np.int64)


def accuracy(net: WatchNet, x: Windows, y: Labels) -> float:
    """Share of windows that are predicted right."""
    return float((predict(net, x) == y).mean())


def _rotations(angles: Tensor) -> Tensor:
    """Angles [n, 3] in rad about x, y and z → rotation matrices [n, 3, 3]."""
    zero, one = torch.zeros(len(angles)), torch.ones(len(angles))
    (cx, cy, cz), (sx, sy, sz) = torch.cos(angles).unbind(1), torch.sin(angles).unbind(1)
    about_x = torch.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx], 1).view(-1, 3, 3)
    about_y = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], 1).view(-1, 3, 3)
    about_z = torch.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one], 1).view(-1, 3, 3)
    return about_x @ about_y @ about_z
