"""The head that each task has of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from MedSeqFTLib.models.backbone import Features
from MedSeqFTLib.workspace.networks import NetworkSpec


class Head(nn.Module):
    """Class logits [batch, classes, z, y, x] from the backbone's decoder features. Class 0 is background."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.activation = nn.PReLU()
        self.classify = nn.Conv3d(features, classes, kernel_size=1)

    def forward(self, features: Features) -> Tensor:
        return self.classify(self.activation(features.decoder))


def build_head(network: NetworkSpec, classes: int, seed: int) -> Head:
    """A freshly initialised head for `classes` classes, background included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Head(network.features, classes)
