"""STU-Net as a backbone."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from MedSeqFTLib.models.backbone import Backbone, Features
from MedSeqFTLib.workspace.networks import Step, STUNetDescription


class STUNet(Backbone):
    """A U-Net of residual blocks without its classifiers (Huang et al., STU-Net, 2023).

    Modules have the published names.
    """

    def __init__(self, network: STUNetDescription) -> None:
        super().__init__(network)
        depth = network.depth
        pairs, steps = list(pairwise(network.channels)), network.steps
        self.conv_blocks_context = nn.ModuleList(
            [
                _stage(1, network.channels[0], depth),
                *(_stage(fine, coarse, depth, step) for (fine, coarse), step in zip(pairs, steps, strict=True)),
            ]
        )
        self.upsample_layers = nn.ModuleList(
            _Upsampling(coarse, fine, step) for (fine, coarse), step in zip(pairs[::-1], steps[::-1], strict=True)
        )
        self.conv_blocks_localization = nn.ModuleList(_stage(2 * fine, fine, depth) for fine, _ in reversed(pairs))

    def read_out(self, image: Tensor) -> Features:
        encoder = self.encode(image)
        *skips, x = encoder
        for up, stage, skip in zip(self.upsample_layers, self.conv_blocks_localization, reversed(skips), strict=True):
            x = stage(torch.cat([up(x), skip], dim=1))
        return Features(encoder, x)

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        stages: list[Tensor] = []
        for stage in self.conv_blocks_context:
            stages.append(stage(stages[-1] if stages else image))
        return tuple(stages)


def _stage(inward: int, outward: int, depth: int, step: Step = (1, 1, 1)) -> nn.Sequential:
    first = _Block(inward, outward, step, projected=True)
    return nn.Sequential(first, *(_Block(outward, outward) for _ in range(depth - 1)))


class _Block(nn.Module):
    """Two convolutions and a shortcut, `projected` by a pointwise convolution; leaky rectifiers of slope 0.01."""

    def __init__(self, inward: int, outward: int, step: Step = (1, 1, 1), projected: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inward, outward, kernel_size=3, stride=step, padding=1)
        self.norm1 = nn.InstanceNorm3d(outward, eps=1e-5, affine=True)
        self.conv2 = nn.Conv3d(outward, outward, kernel_size=3, padding=1)
        self.norm2 = nn.InstanceNorm3d(outward, eps=1e-5, affine=True)
        self.conv3 = nn.Conv3d(inward, outward, kernel_size=1, stride=step) if projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = functional.leaky_relu(self.norm1(self.conv1(x)), 0.01, inplace=True)
        return functional.leaky_relu(self.norm2(self.conv2(y)) + self.conv3(x), 0.01, inplace=True)


class _Upsampling(nn.Module):
    """Each voxel is repeated, then a pointwise convolution; here in the other order, which is the same and cheaper."""

    def __init__(self, coarse: int, fine: int, step: Step) -> None:
        super().__init__()
        self.conv = nn.Conv3d(coarse, fine, kernel_size=1)
        self._repeated = nn.Upsample(scale_factor=step)

    def forward(self, x: Tensor) -> Tensor:
        return self._repeated(self.conv(x))
