"""MONAI's Swin UNETR as a backbone (Hatamizadeh et al., 2022, arXiv:2201.01266)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.networks.nets import SwinUNETR
from torch import Tensor
from torch.overrides import TorchFunctionMode

from MedSeqFTLib.models.backbone import Backbone, Features
from MedSeqFTLib.models.networks.legacy_merging import LegacyPatchMerging
from MedSeqFTLib.workspace.networks import SwinUNETRDescription


class SwinUNETRBackbone(Backbone):
    """MONAI's Swin UNETR without its last layer, read out at every resolution.

    The layers, their names and their initialisation are MONAI's; only the walk through them is ours.

    Features.encoder: the transformer's five hidden states at 1/2, 1/4, 1/8, 1/16 and 1/32 of the image's sides, with
        1, 2, 4, 8 and 16 times `feature_size` channels: what files that hold the transformer alone were trained for.
    Features.decoder: what MONAI passes to its last layer, `feature_size` channels.
    """

    def __init__(self, network: SwinUNETRDescription) -> None:
        super().__init__(network)
        with _NumbersWithoutDevice():
            self.unetr = SwinUNETR(
                in_channels=1,
                out_channels=1,
                feature_size=network.feature_size,
                depths=network.depths,
                num_heads=network.heads,
                downsample=LegacyPatchMerging if network.merging == "legacy" else "merging",
                use_v2=network.residual_stages,
            )
        del self.unetr.out

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.unetr.swinViT(image, self.unetr.normalize))

    def skips(self, image: Tensor) -> tuple[Tensor, ...]:
        """What convolutions pass on from encoder to decoder, finest first, of an image as the weights expect it.

        At 1, 1/2, 1/4, 1/8 and 1/32 of the image's sides, with 1, 1, 2, 4 and 16 times `feature_size` channels. (The
        hidden state at 1/16 reaches the decoder as it is, so it is not among them.)
        """
        return self._skips(image, self.encode(image))

    def read_out(self, image: Tensor) -> Features:
        hidden = self.encode(image)
        finest, *between, deepest = self._skips(image, hidden)
        decoder = self.unetr.decoder5(deepest, hidden[3])
        for up, skip in zip(
            (self.unetr.decoder4, self.unetr.decoder3, self.unetr.decoder2), between[::-1], strict=True
        ):
            decoder = up(decoder, skip)
        return Features(hidden, self.unetr.decoder1(decoder, finest))

    def _skips(self, image: Tensor, hidden: Sequence[Tensor]) -> tuple[Tensor, ...]:
        net = self.unetr
        blocks = (net.encoder1, net.encoder2, net.encoder3, net.encoder4, net.encoder10)
        inputs = (image, hidden[0], hidden[1], hidden[2], hidden[4])
        return tuple(block(tensor) for block, tensor in zip(blocks, inputs, strict=True))


class _NumbersWithoutDevice(TorchFunctionMode):
    """MONAI takes plain numbers out of a `torch.linspace`, which fails where a network is built without storage (on the
    meta device, to learn its shapes). So that one tensor is always made on the CPU."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)
