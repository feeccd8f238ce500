"""MONAI's SegResNet as a backbone."""

from __future__ import annotations

from monai.networks.nets import SegResNet
from torch import Tensor

from MedSeqFTLib.models.backbone import Backbone, Features
from MedSeqFTLib.workspace.networks import SegResNetDescription


class SegResNetBackbone(Backbone):
    """MONAI's SegResNet up to its last convolution (Myronenko, 3D MRI brain tumor segmentation, 2018; no autoencoder).

    Decoder features come after the last normalisation and rectifier, as the published classifier gets them.
    """

    def __init__(self, network: SegResNetDescription) -> None:
        super().__init__(network)
        self.segresnet = SegResNet(
            spatial_dims=3,
            in_channels=1,
            init_filters=network.filters,
            blocks_down=network.blocks_down,
            blocks_up=network.blocks_up,
        )
        del self.segresnet.conv_final[2]  # the classifier
        del self.segresnet.act_mod  # conv_final holds it, too

    def read_out(self, image: Tensor) -> Features:
        deepest, encoder = self.segresnet.encode(image)
        return Features(tuple(encoder), self.segresnet.decode(deepest, encoder[::-1]))

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.segresnet.encode(image)[1])
