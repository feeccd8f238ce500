"""K&G RFT: the losses of stage A (knowledge) and stage B (generalization), as docs/method.md declares them.

Stage A fine-tunes everything on the task; a frozen teacher keeps the encoder's features on the buffer in place. Stage B
leaves the parent's weights frozen and lets low-rank adapters learn to do what stage A's result does; for earlier tasks
they learn to do what the parent does. The form of both losses is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from monai.losses import DiceCELoss
from peft import PeftModel
from torch import Tensor, nn

from MedSeqFTLib.imaging.sampling import PatchSampler
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.models.backbone import Backbone, Features
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.head import Head

_IMPOSSIBLE = 1e4  # a logit that leaves no probability
_SMALLEST_DEVIATION = 1e-2  # below it a channel of the teacher is silent


@dataclass(frozen=True)
class TaskBuffer:
    """The kept cases of one task."""

    task: str
    sampler: PatchSampler


def feature_distance(student: Features, teacher: Features) -> Tensor:
    """Mean over resolutions of the mean squared difference of encoder features.

    Each channel is measured in standard deviations of the teacher's channel, so that loud channels do not drown others.
    """
    distances = [_channel_distance(s.float(), t.float()) for s, t in zip(student.encoder, teacher.encoder, strict=True)]
    return torch.stack(distances).mean()


def _channel_distance(student: Tensor, teacher: Tensor) -> Tensor:
    deviation = teacher.std((0, 2, 3, 4), keepdim=True).clamp(min=_SMALLEST_DEVIATION)
    return ((student - teacher) / deviation).square().mean()


def segmentation_loss() -> nn.Module:
    """Dice plus cross-entropy on class indices [batch, 1, z, y, x]; the Dice part leaves the background out."""
    return DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)


def with_unknown_as_background(logits: Tensor, known: Tensor) -> Tensor:
    """Logits [batch, classes, z, y, x] for references that do not speak of every class.

    An unlabelled voxel may belong to an unknown class (known [batch, classes] False): its probability is counted with
    the background's, so that finding it costs nothing.
    """
    if known.all():
        return logits
    unknown = ~known[:, :, None, None, None]
    background_or_unknown = unknown.clone()
    background_or_unknown[:, 0] = True
    background = logits.masked_fill(~background_or_unknown, -torch.inf).logsumexp(1, keepdim=True)
    rest = logits[:, 1:].masked_fill(unknown[:, 1:], -_IMPOSSIBLE)
    return torch.cat([background, rest], dim=1)


def imitation_loss() -> nn.Module:
    """Dice plus cross-entropy on the teacher's class probabilities [batch, classes, z, y, x]."""
    return DiceCELoss(softmax=True, include_background=False, batch=True)


class StageA:
    """Losses of full fine-tuning on a task with feature distillation on the buffers."""

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        teacher: Backbone | None,
        data: PatchSampler,
        buffers: Sequence[TaskBuffer],
        settings: AdaptSettings,
        compute: Compute,
    ) -> None:
        self._backbone, self._head, self._teacher = backbone, head, teacher
        self._data, self._buffers = data, buffers
        self._settings, self._compute = settings, compute
        self._segmentation = segmentation_loss()

    def __call__(self, step: int) -> Mapping[str, Tensor]:
        batch = self._data.batch(step)
        device = self._compute.device
        with self._compute.autocast():
            logits = self._head(self._backbone(batch.image.to(device)))
        marginal = with_unknown_as_background(logits.float(), batch.known.to(device))
        losses = {"segmentation": self._segmentation(marginal, batch.labels.to(device))}
        if self._teacher is not None and self._buffers and self._settings.feature_weight:
            losses["features"] = self._settings.feature_weight * self._retention(step, self._teacher)
        return losses

    def _retention(self, step: int, teacher: Backbone) -> Tensor:
        buffer = self._buffers[step % len(self._buffers)]
        image = buffer.sampler.batch(step).image.to(self._compute.device)
        with self._compute.autocast():
            with torch.no_grad():
                target = teacher(image)
            return feature_distance(self._backbone(image), target)


class StageB:
    """Losses of the low-rank student: imitate stage A's model on the task, and the parent on earlier tasks.

    Args:
        student: the parent's backbone with LoRA; with its adapters off it is the parent.
        heads: the student's heads, trained along, of this and of every earlier task.
        teacher, teacher_head: F_t and h_t, frozen.
        parent_heads: heads of the earlier tasks on the parent's features, frozen.
        buffers: of earlier tasks.
    """

    def __init__(
        self,
        student: PeftModel,
        heads: Mapping[str, Head],
        task: str,
        teacher: Backbone,
        teacher_head: Head,
        parent_heads: Mapping[str, Head],
        data: PatchSampler,
        buffers: Sequence[TaskBuffer],
        settings: AdaptSettings,
        compute: Compute,
    ) -> None:
        self._student, self._heads, self._task = student, heads, task
        self._teacher, self._teacher_head, self._parent_heads = teacher, teacher_head, parent_heads
        self._data, self._buffers = data, buffers
        self._settings, self._compute = settings, compute
        self._imitation = imitation_loss()

    def __call__(self, step: int) -> Mapping[str, Tensor]:
        losses = self._new_task(self._data.batch(step).image.to(self._compute.device))
        if self._buffers and self._settings.distil_earlier_tasks:
            buffer = self._buffers[step % len(self._buffers)]
            image = buffer.sampler.batch(step).image.to(self._compute.device)
            losses |= self._earlier_task(buffer.task, image)
        return losses

    def _new_task(self, image: Tensor) -> dict[str, Tensor]:
        with self._compute.autocast():
            with torch.no_grad():
                target = self._teacher(image)
                logits = self._teacher_head(target)
            return self._distances("", self._student(image), target, self._heads[self._task], logits)

    def _earlier_task(self, task: str, image: Tensor) -> dict[str, Tensor]:
        with self._compute.autocast():
            with torch.no_grad(), self._student.disable_adapter():
                target = self._student(image)
                logits = self._parent_heads[task](target)
            return self._distances("earlier ", self._student(image), target, self._heads[task], logits)

    def _distances(
        self, prefix: str, student: Features, teacher: Features, head: Head, target_logits: Tensor
    ) -> dict[str, Tensor]:
        losses = {}
        if self._settings.distil != "logits":
            losses[f"{prefix}features"] = feature_distance(student, teacher)
        if self._settings.distil != "features":
            target = target_logits.float().softmax(1)
            losses[f"{prefix}logits"] = self._imitation(head(student).float(), target)
        return losses
