"""The one interface of all pretext objectives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from MedSeqFTLib.models.backbone import Backbone

Seed = tuple[int, ...]  # non-negative numbers


class Pretext(nn.Module, ABC):
    """A pretext objective with its head. The backbone is given, not owned: it is trained or scored by the caller."""

    @abstractmethod
    def forward(self, backbone: Backbone, crops: Tensor, seeds: Sequence[Seed]) -> Tensor:
        """The loss of every sample, float32 [batch].

        Args:
            crops: prepared images [batch, 1, z, y, x], values -1..1.
            seeds: one for each sample; everything random about the sample comes from it, and nothing else does.
        """
