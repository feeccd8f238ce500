"""Masked reconstruction: the pretext task that trains the foundation model and that MDS scores cases with.

The masks are made here, from seeds, and nothing in the loss depends on who else is in the batch: the score of a case is
its own, and can be reproduced.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from MedSeqFTLib.imaging.cache import Index3
from MedSeqFTLib.models.networks import Features, ResidualUNet


class PretextHead(nn.Module):
    """Reconstructed intensities [batch, 1, z, y, x] from the backbone's decoder features."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.activation = nn.PReLU()
        self.reconstruct = nn.Conv3d(features, 1, kernel_size=1)

    def forward(self, features: Features) -> Tensor:
        return self.reconstruct(self.activation(features.decoder))


def build_pretext_head(features: int, seed: int) -> PretextHead:
    """A freshly initialised pretext head; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PretextHead(features)


def block_mask(patch: Index3, block: int, ratio: float, seed: tuple[int, ...]) -> Tensor:
    """A random mask, bool [1, z, y, x], True where voxels are hidden.

    Args:
        patch: voxels, z, y, x; each a multiple of `block`.
        ratio: share of the blocks to hide; exactly round(ratio * blocks) are, at least one.
        seed: non-negative numbers that the mask depends on and on nothing else.
    """
    grid = [side // block for side in patch]
    count = int(np.prod(grid))
    hidden = np.zeros(count, bool)
    hidden[np.random.default_rng(seed).permutation(count)[: max(1, round(ratio * count))]] = True
    mask = hidden.reshape(grid)
    for axis in range(3):
        mask = mask.repeat(block, axis)
    return torch.from_numpy(mask)[None]


def reconstruction_loss(backbone: ResidualUNet, head: PretextHead, crops: Tensor, masks: Tensor) -> Tensor:
    """Mean squared error on the hidden voxels, one value per sample: float32 [batch].

    Args:
        crops: network values [batch, 1, z, y, x].
        masks: bool, same shape; hidden voxels are replaced by the mean of the sample's visible ones.
    """
    visible = ~masks
    mean = (crops * visible).sum((1, 2, 3, 4), keepdim=True) / visible.sum((1, 2, 3, 4), keepdim=True).clamp(min=1)
    restored = head(backbone(torch.where(masks, mean, crops))).float()
    error = (restored - crops).square() * masks
    return error.sum((1, 2, 3, 4)) / masks.sum((1, 2, 3, 4))
