"""nnU-Net's residual encoder U-Net as a backbone, built by the package that nnU-Net and nnssl build it with.

Isensee et al., nnU-Net Revisited (2024), https://arxiv.org/abs/2404.09556.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.models.backbone import Backbone, Features
from MedSeqFTLib.workspace.networks import ResidualEncoderUNetDescription

try:
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet as PublishedUNet
    from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
except ModuleNotFoundError as missing:
    raise InputError(
        f"nnU-Net's residual encoder U-Net needs a package that is not installed ({missing.name}). Start MedSeqFT with "
        f"run.py, which installs it, or run: {sys.executable} -m pip install --no-deps "
        "'dynamic-network-architectures>=0.4.4,<0.5' (without --no-deps, pip would replace torch)."
    ) from missing


class ResidualEncoderUNet(Backbone):
    """The U-Net of nnssl's ResEnc-L for the default description, without its 1x1x1 output convolutions.

    Sampling is halved from stage to stage; each decoder stage has one convolution.
    """

    def __init__(self, network: ResidualEncoderUNetDescription) -> None:
        super().__init__(network)
        stages = len(network.channels)
        self.unet = PublishedUNet(
            input_channels=1,
            n_stages=stages,
            features_per_stage=network.channels,
            conv_op=nn.Conv3d,
            kernel_sizes=3,
            strides=(1,) + (2,) * (stages - 1),
            n_blocks_per_stage=network.blocks,
            num_classes=1,
            n_conv_per_stage_decoder=1,
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
        )
        _register_once(self.unet)

    def read_out(self, image: Tensor) -> Features:
        encoder = self.encode(image)
        decoder = self.unet.decoder
        x = encoder[-1]
        for upsample, stage, skip in zip(decoder.transpconvs, decoder.stages, encoder[-2::-1], strict=True):
            x = stage(torch.cat([upsample(x), skip], dim=1))
        return Features(encoder, x)

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.unet.encoder(image))


def _register_once(unet: Any) -> None:
    """Drop second names of the same modules, and the output convolutions.

    The package registers each convolution as `conv` and as `all_modules.0`, and the encoder once more in the decoder.
    LoRA would replace the first of the names while forward uses the last one: adapters without any effect.
    """
    for block in [module for module in unet.modules() if isinstance(module, ConvDropoutNormReLU)]:
        for name in [name for name in block._modules if name != "all_modules"]:
            delattr(block, name)
    del unet.decoder.encoder, unet.decoder.seg_layers
