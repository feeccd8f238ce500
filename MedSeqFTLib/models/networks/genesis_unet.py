"""The 3D U-Net of Models Genesis, which SuPreM's U-Net is, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from MedSeqFTLib.models.backbone import Backbone, Features
from MedSeqFTLib.workspace.networks import GenesisUNetDescription


class GenesisUNet(Backbone):
    """Four levels with 2, 4, 8 and 16 times `base` channels (Zhou et al., Models Genesis, 2021).

    Modules have the published names; the numbers in them are the channels for a base of 32, whatever the base is.
    """

    def __init__(self, network: GenesisUNetDescription) -> None:
        super().__init__(network)
        first, second, third, deepest = (network.base * 2**level for level in (1, 2, 3, 4))
        self.down_tr64 = _Level(1, first // 2, first)
        self.down_tr128 = _Level(first, first, second)
        self.down_tr256 = _Level(second, second, third)
        self.down_tr512 = _Level(third, third, deepest)
        self.up_tr256 = _UpLevel(deepest, third)
        self.up_tr128 = _UpLevel(third, second)
        self.up_tr64 = _UpLevel(second, first)
        self.halve = nn.MaxPool3d(2)

    def read_out(self, image: Tensor) -> Features:
        encoder = self.encode(image)
        *skips, x = encoder
        for up, skip in zip((self.up_tr256, self.up_tr128, self.up_tr64), reversed(skips), strict=True):
            x = up(x, skip)
        return Features(encoder, x)

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        levels = [self.down_tr64(image)]
        for down in (self.down_tr128, self.down_tr256, self.down_tr512):
            levels.append(down(self.halve(levels[-1])))
        return tuple(levels)


class _Unit(nn.Module):
    """Convolution, normalisation, rectifier.

    The published layer is a batch normalisation that uses the statistics of its batch even in prediction, where SuPreM
    gives it one patch at a time; it never uses the running statistics that its files hold. So each image is normalised
    by itself here: the same prediction, and no result depends on who else is in a batch.
    """

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inward, outward, kernel_size=3, padding=1)
        self.bn1 = nn.InstanceNorm3d(outward, eps=1e-5, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn1(self.conv1(x)).relu_()


class _Level(nn.Module):
    """Two units at one resolution."""

    def __init__(self, inward: int, between: int, outward: int) -> None:
        super().__init__()
        self.ops = nn.Sequential(_Unit(inward, between), _Unit(between, outward))

    def forward(self, x: Tensor) -> Tensor:
        return self.ops(x)


class _UpLevel(nn.Module):
    """Twice as fine, joined with the encoder's features of that resolution, two units."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(coarse, coarse, kernel_size=2, stride=2)
        self.ops = nn.Sequential(_Unit(coarse + fine, fine), _Unit(fine, fine))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.ops(torch.cat([self.up_conv(x), skip], dim=1))
