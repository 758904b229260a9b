"""The network: a small 1-D CNN over one window; normalisation is part of the graph, so a device sends raw values.

Input `x` [N, 100, 6] float32 (g and rad/s); outputs `probabilities` [N, 7] and `embedding` [N, 64], float32. The
embedding is what the convolutions say on average over time: a narrower one notices drift later.
Three convolutions, ReLU, a mean over time and two matrix products: what every engine fuses and runs in int8. Fewer
parameters or more layers lose what int8 gains.

>>> sum(p.numel() for p in WatchNet().parameters()) < 30_000
True
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.watch.data import CHANNELS, CLASSES

EMBEDDING = 64
HIDDEN = 16


class WatchNet(nn.Module):
    """About 25k parameters."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, len(CHANNELS), 1))
        self.register_buffer("scale", torch.ones(1, len(CHANNELS), 1))
        self.body = nn.Sequential(*_block(len(CHANNELS), 32, 5), *_block(32, 64, 5), *_block(64, 64, 3))
        self.project = nn.Linear(EMBEDDING, HIDDEN)
        self.classify = nn.Linear(HIDDEN, len(CLASSES))

    def features(self, x: Tensor) -> Tensor:
        """[N, 100, 6] raw → [N, 64]."""
        normal = (x.transpose(1, 2) - self.mean) * self.scale
        pooled: Tensor = self.body(normal).mean(dim=2)
        return pooled

    def logits(self, x: Tensor) -> Tensor:
        """[N, 100, 6] raw → [N, 7], before the softmax: what training compares."""
        return self._classified(self.features(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return `probabilities` and `embedding`."""
        embedding = self.features(x)
        return torch.softmax(self._classified(embedding), dim=1), embedding

    def _classified(self, embedding: Tensor) -> Tensor:
        out: Tensor = self.classify(torch.relu(self.project(embedding)))
        return out


def _block(channels_in: int, channels_out: int, kernel: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv1d(channels_in, channels_out, kernel, stride=2, padding=kernel // 2)
    return convolution, nn.BatchNorm1d(channels_out), nn.ReLU()
