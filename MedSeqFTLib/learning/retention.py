"""K&G RFT: the losses of stage A (knowledge) and stage B (generalization), as docs/method.md declares them.

Stage A fine-tunes everything on the task; a frozen teacher keeps the encoder's features on the buffers in place.
Stage B leaves the parent's weights frozen and lets low-rank adapters learn to do what stage A's result does; on
earlier tasks they learn to do what those tasks' own models do. The form of both losses is our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from MedSeqFTLib.imaging.sampling import PatchSampler
from MedSeqFTLib.learning.losses import imitation_loss
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.models.backbone import Backbone, Features
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.head import Head

_SMALLEST_DEVIATION = 1e-2  # below it a channel of the teacher is silent


def feature_distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean over resolutions of the mean squared difference of encoder features.

    Each channel is measured in standard deviations of the teacher's channel, so that loud channels do not drown others.
    """
    distances = [_channel_distance(s.float(), t.float()) for s, t in zip(student, teacher, strict=True)]
    return torch.stack(distances).mean()


def _channel_distance(student: Tensor, teacher: Tensor) -> Tensor:
    deviation = teacher.std((0, 2, 3, 4), keepdim=True).clamp(min=_SMALLEST_DEVIATION)
    return ((student - teacher) / deviation).square().mean()


class FeatureRetention:
    """Stage A's second loss: the encoder's features of a buffer stay near a frozen teacher's."""

    def __init__(
        self, backbone: Backbone, teacher: Backbone, buffer: PatchSampler, weight: float, compute: Compute
    ) -> None:
        self._backbone, self._teacher = backbone, teacher
        self._buffer, self._weight, self._compute = buffer, weight, compute

    def __call__(self, step: int) -> Mapping[str, Tensor]:
        image = self._buffer.images(step).to(self._compute.device)
        with self._compute.autocast():
            with torch.no_grad():
                target = self._teacher.encoder_features(image)
            distance = feature_distance(self._backbone.encoder_features(image), target)
        return {"features": self._weight * distance}


@dataclass(frozen=True)
class Target:
    """What a student is to imitate on a batch: the teacher's encoder features, and its class probabilities."""

    image: Tensor
    features: tuple[Tensor, ...]
    probabilities: Tensor  # [batch, classes, z, y, x], float32


class Teacher:
    """A frozen model of one task, put to work on a sampler's batches.

    Args:
        backbone: gives the features; whatever must be switched before it is used is part of it.
        bank: how many batches there are, again and again; their targets are computed once and kept. 0: every step has
            a batch of its own, and nothing is kept.
    """

    def __init__(
        self, backbone: Callable[[Tensor], Features], head: Head, data: PatchSampler, compute: Compute, bank: int = 0
    ) -> None:
        self._backbone, self._head = backbone, head
        self._data, self._compute = data, compute
        self._bank = bank
        self._kept: dict[int, Target] = {}

    def target(self, step: int) -> Target:
        """The step's batch and what to make of it."""
        if not self._bank:
            return self._computed(step)
        number = step % self._bank
        if number not in self._kept:
            self._kept[number] = self._computed(number)
        return self._kept[number]

    def _computed(self, step: int) -> Target:
        image = self._data.images(step).to(self._compute.device)
        with torch.no_grad(), self._compute.autocast():
            features = self._backbone(image)
            logits = self._head(features)
        return Target(image, features.encoder, logits.float().softmax(1))


class Imitation:
    """Stage B's loss on one task: features and class probabilities like the teacher's."""

    def __init__(
        self,
        student: nn.Module,
        head: Head,
        teacher: Teacher,
        settings: AdaptSettings,
        compute: Compute,
        prefix: str = "",
        weight: float = 1.0,
    ) -> None:
        self._student, self._head, self._teacher = student, head, teacher
        self._settings, self._compute, self._prefix, self._weight = settings, compute, prefix, weight
        self._imitation = imitation_loss()

    def __call__(self, step: int) -> Mapping[str, Tensor]:
        target = self._teacher.target(step)
        with self._compute.autocast():
            features: Features = self._student(target.image)
            losses = {}
            if self._settings.distil != "logits":
                losses[f"{self._prefix}features"] = self._weight * feature_distance(features.encoder, target.features)
            if self._settings.distil != "features":
                logits = self._head(features).float()
                losses[f"{self._prefix}logits"] = self._weight * self._imitation(logits, target.probabilities)
        return losses
