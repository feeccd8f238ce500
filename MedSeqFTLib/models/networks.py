"""The backbone that tasks share and the head that each task has of its own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from MedSeqFTLib.workspace.schema import Network


class Features(NamedTuple):
    """What a backbone computes from [batch, 1, z, y, x].

    encoder: one tensor [batch, channels, z', y', x'] per resolution, finest first, deepest last.
    decoder: [batch, features, z, y, x] at the resolution of the input; heads work on it.
    """

    encoder: tuple[Tensor, ...]
    decoder: Tensor


class ResidualUNet(nn.Module):
    """MONAI's residual U-Net, read out at every resolution instead of as class logits.

    The layers, their order and their initialisation are MONAI's; only the walk through them is ours, because the
    distillation needs the encoder's features and the heads are separate from the backbone.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.unet = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=network.features,
            channels=network.channels,
            strides=(2,) * (len(network.channels) - 1),
            num_res_units=2,
        )

    def forward(self, image: Tensor) -> Features:
        encoder: list[Tensor] = []
        decoder = _walk(self.unet.model, image, encoder)
        return Features(tuple(encoder), decoder)


def _walk(block: nn.Module, x: Tensor, encoder: list[Tensor]) -> Tensor:
    """MONAI's U-Net is nested: (down, skip connection around the next block, up); the deepest block stands alone."""
    if not (isinstance(block, nn.Sequential) and len(block) == 3):
        encoder.append(block(x))
        return encoder[-1]
    down, skip, up = block
    deeper = skip.submodule
    assert isinstance(deeper, nn.Module)
    finest = down(x)
    encoder.append(finest)
    return up(torch.cat([finest, _walk(deeper, finest, encoder)], dim=1))


class Head(nn.Module):
    """Class logits [batch, classes, z, y, x] from the backbone's decoder features. Class 0 is background."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.activation = nn.PReLU()
        self.classify = nn.Conv3d(features, classes, kernel_size=1)

    def forward(self, features: Features) -> Tensor:
        return self.classify(self.activation(features.decoder))


def build_backbone(network: Network, seed: int) -> ResidualUNet:
    """A freshly initialised backbone; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResidualUNet(network)


def build_head(network: Network, classes: int, seed: int) -> Head:
    """A freshly initialised head for `classes` classes, background included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Head(network.features, classes)
