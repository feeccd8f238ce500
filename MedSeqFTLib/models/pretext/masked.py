"""Masked reconstruction: hide blocks of a crop and reconstruct them from the rest (as in MAE and SimMIM)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from MedSeqFTLib.imaging.cache import Index3
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.pretext.base import Pretext, Seed
from MedSeqFTLib.workspace.networks import MaskedReconstructionDescription, NetworkSpec


class MaskedReconstruction(Pretext):
    """Mean squared error on the hidden voxels, in the values of the network's input."""

    def __init__(self, pretext: MaskedReconstructionDescription, network: NetworkSpec) -> None:
        super().__init__()
        self._pretext = pretext
        self.activation = nn.PReLU() if pretext.activation else nn.Identity()
        self.reconstruct = nn.Conv3d(network.features, 1, kernel_size=1)

    def forward(self, backbone: Backbone, crops: Tensor, seeds: Sequence[Seed]) -> Tensor:
        image = backbone.expected(crops)
        patch: Index3 = tuple(image.shape[2:])  # type: ignore[assignment]
        masks = [block_mask(patch, self._pretext.block, self._pretext.ratio, seed) for seed in seeds]
        return self.masked_loss(backbone, image, torch.stack(masks).to(image.device))

    def masked_loss(self, backbone: Backbone, image: Tensor, masks: Tensor) -> Tensor:
        """The loss [batch] of images as the network expects them, with masks (bool, same shape, True: hidden)."""
        visible = ~masks
        fill = torch.zeros((), device=image.device)
        if self._pretext.fill == "visible-mean":
            count = visible.sum((1, 2, 3, 4), keepdim=True).clamp(min=1)
            fill = (image * visible).sum((1, 2, 3, 4), keepdim=True) / count
        features = backbone.read_out(torch.where(masks, fill, image)).decoder
        restored = self.reconstruct(self.activation(features)).float()
        error = (restored - image).square() * masks
        return error.sum((1, 2, 3, 4)) / masks.sum((1, 2, 3, 4))


def block_mask(patch: Index3, block: int, ratio: float, seed: Seed) -> Tensor:
    """A random mask, bool [1, z, y, x], True where voxels are hidden.

    Args:
        patch: voxels, z, y, x; each a multiple of `block`.
        ratio: share of the blocks to hide; exactly round(ratio * blocks) are, at least one.
        seed: what the mask depends on, and nothing else.
    """
    grid = [side // block for side in patch]
    count = int(np.prod(grid))
    hidden = np.zeros(count, bool)
    hidden[np.random.default_rng(seed).permutation(count)[: max(1, round(ratio * count))]] = True
    mask = hidden.reshape(grid)
    for axis in range(3):
        mask = mask.repeat(block, axis)
    return torch.from_numpy(mask)[None]
