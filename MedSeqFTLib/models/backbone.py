"""What every network is here: a backbone that is read out at every resolution, apart from the heads on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from MedSeqFTLib.workspace.networks import NetworkDescription


class Features(NamedTuple):
    """What a backbone computes from [batch, 1, z, y, x].

    encoder: one tensor [batch, channels, ...] per resolution, finest first, deepest last, on the network's own axes.
    decoder: [batch, features, z, y, x] at the resolution of the input; heads work on it.
    """

    encoder: tuple[Tensor, ...]
    decoder: Tensor


class Backbone(nn.Module, ABC):
    """A network without its last layer.

    `forward` takes prepared images: values -1..1, axes z, y, x towards superior, posterior and left. Whatever else the
    weights expect is converted here, and nowhere else.
    """

    def __init__(self, network: NetworkDescription) -> None:
        super().__init__()
        self._values = network.values
        self._turned = network.axes == "xyz-RAS"

    def forward(self, image: Tensor) -> Features:
        features = self.read_out(self.expected(image))
        decoder = features.decoder
        return Features(features.encoder, decoder.flip(2, 3).transpose(2, 4) if self._turned else decoder)

    def encoder_features(self, image: Tensor) -> tuple[Tensor, ...]:
        """What `forward` gives as Features.encoder, of the same images; the decoder is not computed."""
        return self.encode(self.expected(image))

    def expected(self, image: Tensor) -> Tensor:
        """Prepared images [batch, 1, z, y, x] as the weights expect them: their values, their axes."""
        low, high = self._values
        if (low, high) != (-1.0, 1.0):
            image = (image + 1) * ((high - low) / 2) + low
        return image.transpose(2, 4).flip(2, 3) if self._turned else image

    @abstractmethod
    def read_out(self, image: Tensor) -> Features:
        """Features of an image that is as the weights expect it, on the network's own axes."""

    @abstractmethod
    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        """The encoder's features alone, of an image that is as the weights expect it."""
