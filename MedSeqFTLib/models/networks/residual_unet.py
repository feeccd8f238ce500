"""MONAI's residual U-Net as a backbone."""

from __future__ import annotations

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from MedSeqFTLib.models.backbone import Backbone, Features
from MedSeqFTLib.workspace.networks import ResidualUNetDescription

_FEW_VALUES = 20_480


class ResidualUNet(Backbone):
    """MONAI's residual U-Net, read out at every resolution instead of as class logits.

    The layers, their order and their initialisation are MONAI's; only the walk through them is ours, because the
    distillation needs the encoder's features and the heads are separate from the backbone.
    """

    def __init__(self, network: ResidualUNetDescription) -> None:
        super().__init__(network)
        self._channels = network.channels[0]
        self.unet = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=network.decoder_features,
            channels=network.channels,
            strides=(2,) * (len(network.channels) - 1),
            num_res_units=2,
        )

    def read_out(self, image: Tensor) -> Features:
        if not self._is_slow_alone(image):
            return self._read(image)
        pair = self._read(torch.cat([image, image]))
        return Features(tuple(level[:1] for level in pair.encoder), pair.decoder[:1])

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        if not self._is_slow_alone(image):
            return self._encode(image)
        return tuple(level[:1] for level in self._encode(torch.cat([image, image])))

    def _is_slow_alone(self, image: Tensor) -> bool:
        """Whether twice the same sample takes less time.

        On CPUs, torch leaves float32 convolutions over one sample to oneDNN only from 20,480 values in the first two
        dimensions of the feature map on; its own take several times as long, and the deeper layers have fewer values.
        """
        samples, _, z, y, _ = image.shape
        values = self._channels * (z // 2) * (y // 2)
        plain = image.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        return samples == 1 and plain and values <= _FEW_VALUES

    def _read(self, image: Tensor) -> Features:
        encoder = self._encode(image)
        _, ups = _halves(self.unet.model)
        *skips, x = encoder
        for up, skip in zip(reversed(ups), reversed(skips), strict=True):
            x = up(torch.cat([skip, x], dim=1))
        return Features(encoder, x)

    def _encode(self, image: Tensor) -> tuple[Tensor, ...]:
        downs, _ = _halves(self.unet.model)
        levels: list[Tensor] = []
        for down in downs:
            levels.append(down(levels[-1] if levels else image))
        return tuple(levels)


def _halves(block: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """The encoder's blocks, the deepest among them, and the decoder's, finest first.

    MONAI's U-Net is nested: (down, skip connection around the next block, up); the deepest block stands alone.
    """
    downs: list[nn.Module] = []
    ups: list[nn.Module] = []
    while isinstance(block, nn.Sequential) and len(block) == 3:
        down, skip, up = block
        downs.append(down)
        ups.append(up)
        deeper = skip.submodule
        assert isinstance(deeper, nn.Module)
        block = deeper
    return [*downs, block], ups
