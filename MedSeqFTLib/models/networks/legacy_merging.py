"""What Swin UNETR's patch merging computed in MONAI up to 1.4, which weights trained with those versions still need."""

from __future__ import annotations

import torch
from monai.networks.nets.swin_unetr import PatchMerging
from torch import Tensor

#: Which of the eight neighbours (first, second, third axis) go into one merged token, in this order. Two come twice and
#: two never: a mistake that MONAI 1.5 corrected (pull request 8285) without a change of names or shapes.
OFFSETS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))


class LegacyPatchMerging(PatchMerging):
    """Merges 2x2x2 tokens [batch, x, y, z, channels] into one with twice the channels, as MONAI up to 1.4 did.

    The parameters are those of MONAI's own class. All sides are even, since an image's are multiples of 32.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        neighbours = [tokens[:, i::2, j::2, k::2] for i, j, k in OFFSETS]
        return self.reduction(self.norm(torch.cat(neighbours, dim=-1)))
