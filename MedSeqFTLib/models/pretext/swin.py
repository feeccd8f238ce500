"""Swin UNETR's pre-training (Tang et al., CVPR 2022, arXiv:2111.14791): rotation, contrast and inpainting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.pretext.base import Pretext, Seed
from MedSeqFTLib.workspace.networks import NetworkSpec, SwinPretextDescription, SwinUNETRDescription

#: Sides of a removed block as shares of the image's, from (included) and to (excluded), as in the published code.
BLOCK = (0.05, 0.25)
#: Points a side of the coarse noise that a fixed partner is interpolated from.
PARTNER_POINTS = 6


class View(NamedTuple):
    """One view of a sample: turned by `turns` quarter turns (`whole`), then with blocks removed (`shown`)."""

    turns: int
    whole: Tensor  # [1, x, y, z]
    shown: Tensor


class SwinPretext(Pretext):
    """The sum of three losses, each with weight 1 and the mean of two views of the sample.

    rotation: cross entropy of the view's quarter turns about the network's first axis, told from the first token.
    contrast: NT-Xent of the two views, told from the second token.
    inpainting: absolute error of the whole view restored from the one with blocks removed, in the network's values.

    Two things are ours, since the loss of a sample may depend on its crop and its seed alone. The published contrast
    tells a view from the other images of the batch; here it is told from fixed partners (`partners`), the same for
    every sample, through which no gradient flows. And removed blocks hold noise only; the published code also pastes
    blocks of other images.
    """

    def __init__(self, pretext: SwinPretextDescription, network: NetworkSpec) -> None:
        super().__init__()
        if not isinstance(network, SwinUNETRDescription):
            raise InputError(f"Swin UNETR's pretext objective needs a Swin UNETR, but the network is a {network.kind}.")
        self._pretext = pretext
        self._values = network.values
        width = network.feature_size * 16
        self.rotation_head = nn.Linear(width, 4)
        self.contrastive_head = nn.Linear(width, pretext.embedding)
        self.convTrans3d = nn.ConvTranspose3d(width, 1, kernel_size=network.stride, stride=network.stride)

    def forward(self, backbone: Backbone, crops: Tensor, seeds: Sequence[Seed]) -> Tensor:
        image = backbone.expected(crops)
        views = [view for sample, seed in zip(image, seeds, strict=True) for view in self._views(sample, seed)]
        deepest = backbone.encode(torch.stack([view.shown for view in views]))[-1]
        with torch.no_grad():
            reference = backbone.encode(partners(self._pretext.partners, image[0], self._values))[-1]
        turns = torch.tensor([view.turns for view in views], device=image.device)
        rotation = F.cross_entropy(self.rotation_head(_token(deepest, 0)).float(), turns, reduction="none")
        contrast = self._contrast(self._embedded(deepest), self._embedded(reference).detach())
        error = self.convTrans3d(deepest).float() - torch.stack([view.whole for view in views])
        losses = rotation + contrast + error.abs().mean((1, 2, 3, 4))
        return losses.view(-1, 2).mean(1)

    def _views(self, sample: Tensor, seed: Seed) -> list[View]:
        generator = np.random.default_rng(seed)
        views = []
        for _ in range(2):
            turns = int(generator.integers(4))
            whole = torch.rot90(sample, turns, (2, 3))
            views.append(View(turns, whole, cut_out(whole, self._pretext.cut_out, self._values, generator)))
        return views

    def _embedded(self, deepest: Tensor) -> Tensor:
        return F.normalize(self.contrastive_head(_token(deepest, 1)).float(), dim=1)

    def _contrast(self, views: Tensor, reference: Tensor) -> Tensor:
        """NT-Xent [2 * batch] of unit vectors [2 * batch, embedding], the two views of a sample side by side."""
        others = views.view(-1, 2, views.shape[1]).flip(1).view_as(views)
        similar = torch.cat([(views * others).sum(1, keepdim=True), views @ reference.T], dim=1)
        first = torch.zeros(len(views), dtype=torch.long, device=views.device)
        return F.cross_entropy(similar / self._pretext.temperature, first, reduction="none")


def partners(count: int, like: Tensor, values: tuple[float, float]) -> Tensor:
    """The fixed images that a view is told from: smooth noise [count, 1, x, y, z] over the network's values.

    They depend on the shape of `like` [1, x, y, z] alone, whose device and kind of numbers they take.
    """
    points = (count, 1, PARTNER_POINTS, PARTNER_POINTS, PARTNER_POINTS)
    coarse = torch.rand(points, generator=torch.Generator().manual_seed(0), device="cpu")
    low, high = values
    smooth = F.interpolate(coarse, size=like.shape[1:], mode="trilinear", align_corners=True)
    return (low + (high - low) * smooth).to(like)


def cut_out(image: Tensor, share: float, values: tuple[float, float], generator: np.random.Generator) -> Tensor:
    """A copy of an image [1, x, y, z] with random blocks of noise, as in the published code.

    Blocks are added until their volumes sum up to a random part, at most `share`, of the image's. The noise is
    Gaussian, stretched in each block to the network's range of values.
    """
    damaged = image.clone()
    wanted = generator.uniform(0, share) * damaged.numel()
    removed = 0
    while removed < wanted:
        x, y, z = (_stretch(side, generator) for side in image.shape[1:])
        size = damaged[0, x, y, z].shape
        damaged[0, x, y, z] = torch.from_numpy(_noise(size, values, generator)).to(image)
        removed += size.numel()
    return damaged


def _stretch(side: int, generator: np.random.Generator) -> slice:
    """Where a removed block lies along one side."""
    shortest, longest = (int(part * side) for part in BLOCK)
    start = int(generator.integers(0, side - shortest))
    return slice(start, min(start + int(generator.integers(shortest, longest)), side))


def _noise(size: Sequence[int], values: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    noise = generator.standard_normal(size, dtype=np.float32)
    low, high = values
    stretched: np.ndarray = low + (high - low) * (noise - noise.min()) / max(np.ptp(noise), 1e-6)
    return stretched


def _token(deepest: Tensor, index: int) -> Tensor:
    """One of the deepest tokens [batch, channels]; the last one where a small image has no such token."""
    tokens = deepest.flatten(2)
    return tokens[..., min(index, tokens.shape[2] - 1)]
