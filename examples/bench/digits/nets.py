"""Three small nets for one grey image of 32×32: a plain one, one of inverted residuals, a transformer.

Input `x` [N, 1, 32, 32] float32 between 0 and 1; outputs `probabilities` [N, 10] and `embedding`, float32. Each has
less than a million parameters and is made without arguments, so that the compiler can take its weights with
`--architecture examples.bench.digits.nets:Plain`. They are what such nets usually are, not what quantizes best.

>>> [sum(p.numel() for p in net().parameters()) < 1_000_000 for net in NETS.values()]
[True, True, True]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

DIGITS: Final = 10


class Net(nn.Module):
    """`features` gives the embedding; one layer on it classifies."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.classify = nn.Linear(width, DIGITS)

    def features(self, x: Tensor) -> Tensor:
        """[N, 1, 32, 32] → [N, width]."""
        raise NotImplementedError

    def logits(self, x: Tensor) -> Tensor:
        """[N, 1, 32, 32] → [N, 10], before the softmax: what training compares."""
        out: Tensor = self.classify(self.features(x))
        return out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return `probabilities` and `embedding`."""
        embedding = self.features(x)
        return torch.softmax(self.classify(embedding), dim=1), embedding


def _convolution(width_in: int, width: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    layer = nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(width)]


class Plain(Net):
    """Six convolutions with ReLU, a mean over the image: 686k parameters, 26 million products."""

    LAYERS: Final = ((32, 2), (64, 1), (128, 2), (128, 1), (128, 2), (256, 1))

    def __init__(self) -> None:
        super().__init__(256)
        body: list[nn.Module] = []
        before = 1
        for width, stride in self.LAYERS:
            body += [*_convolution(before, width, stride=stride), nn.ReLU()]
            before = width
        self.body = nn.Sequential(*body)

    def features(self, x: Tensor) -> Tensor:
        """See `Net`."""
        pooled: Tensor = self.body(x).mean(dim=(2, 3))
        return pooled


class InvertedResidual(nn.Module):
    """Widen, convolve each channel alone, narrow; added to its input where the shapes agree (Howard et al. 2019)."""

    def __init__(self, width_in: int, wide: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(width_in, wide, 1), nn.Hardswish(),
            *_convolution(wide, wide, 3, stride, groups=wide), nn.Hardswish(),
            *_convolution(wide, width, 1),
        )  # fmt: skip
        self.adds = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        """[N, width_in, H, W] → [N, width, H/stride, W/stride]."""
        out: Tensor = self.body(x)
        return x + out if self.adds else out


class Mobile(Net):
    """Inverted residuals with HardSwish, the form of MobileNetV3: 234k parameters."""

    BLOCKS: Final = (
        (16, 64, 24, 1), (24, 96, 24, 1), (24, 128, 40, 2), (40, 200, 40, 1), (40, 240, 48, 1), (48, 288, 96, 2),
        (96, 480, 96, 1),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__(256)
        blocks = [InvertedResidual(*block) for block in self.BLOCKS]
        head = [*_convolution(96, 256, 1), nn.Hardswish()]
        self.body = nn.Sequential(*_convolution(1, 16, stride=2), nn.Hardswish(), *blocks, *head)

    def features(self, x: Tensor) -> Tensor:
        """See `Net`."""
        pooled: Tensor = self.body(x).mean(dim=(2, 3))
        return pooled


class Block(nn.Module):
    """Attention and two dense layers with GELU, each behind its layer norm (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_dense = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.join = nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[N, tokens, width] → the same."""
        x = x + self._attention(self.norm_attention(x))
        out: Tensor = x + self.dense(self.norm_dense(x))
        return out

    def _attention(self, x: Tensor) -> Tensor:
        query, key, value = (self._by_head(layer(x)) for layer in (self.query, self.key, self.value))
        weights = torch.softmax(query @ key.transpose(2, 3) * (query.shape[3] ** -0.5), dim=3)
        out: Tensor = self.join((weights @ value).transpose(1, 2).flatten(2))
        return out

    def _by_head(self, x: Tensor) -> Tensor:
        """[N, tokens, width] → [N, heads, tokens, width/heads]."""
        out: Tensor = x.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return out


class Transformer(Net):
    """64 tokens of width 128, four blocks of four heads: 811k parameters (Dosovitskiy et al. 2021).

    A token every 4 pixels, each seeing 8×8: patches that do not overlap see one pixel of the small image alone, and
    take hundreds of images more to learn from.
    """

    WIDTH: Final = 128

    def __init__(self) -> None:
        super().__init__(self.WIDTH)
        self.patch = nn.Conv2d(1, self.WIDTH, 8, 4, 2)
        self.place = nn.Parameter(torch.randn(1, 64, self.WIDTH) * 0.02)
        self.blocks = nn.Sequential(*(Block(self.WIDTH, 4) for _ in range(4)))
        self.norm = nn.LayerNorm(self.WIDTH)

    def features(self, x: Tensor) -> Tensor:
        """See `Net`."""
        tokens = self.patch(x).flatten(2).transpose(1, 2) + self.place
        pooled: Tensor = self.norm(self.blocks(tokens)).mean(dim=1)
        return pooled


NETS: Final[dict[str, Callable[[], Net]]] = {"plain": Plain, "mobile": Mobile, "transformer": Transformer}
