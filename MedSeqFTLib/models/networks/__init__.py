"""The networks that a backbone can be. Each file is imported only when its network is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

import torch

from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.workspace.networks import NetworkSpec

#: kind -> module and class
_CLASSES: Mapping[str, tuple[str, str]] = {
    "residual-unet": ("residual_unet", "ResidualUNet"),
    "swin-unetr": ("swin_unetr", "SwinUNETRBackbone"),
    "segresnet": ("segresnet", "SegResNetBackbone"),
    "genesis-unet": ("genesis_unet", "GenesisUNet"),
    "stu-net": ("stu_net", "STUNet"),
    "residual-encoder-unet": ("residual_encoder_unet", "ResidualEncoderUNet"),
    "vit": ("vit", "ViT"),
}


def build_backbone(network: NetworkSpec, seed: int) -> Backbone:
    """A freshly initialised backbone; the same seed gives the same weights."""
    module, name = _CLASSES[network.kind]
    made: Callable[[NetworkSpec], Backbone] = getattr(import_module(f"{__name__}.{module}"), name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return made(network)
