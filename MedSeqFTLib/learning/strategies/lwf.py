"""Learning without Forgetting (Li and Hoiem, ECCV 2016): on new images, the old heads keep saying what they said."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from MedSeqFTLib.imaging.sampling import PatchSampler
from MedSeqFTLib.learning.losses import TaskLoss
from MedSeqFTLib.learning.settings import StrategySettings
from MedSeqFTLib.learning.stages import Context, parent_backbone, parent_heads, task_sampler
from MedSeqFTLib.learning.strategies.base import PLAIN_SETTINGS
from MedSeqFTLib.learning.strategies.fine_tuning import FineTuning
from MedSeqFTLib.models.backbone import Backbone, Features
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.head import Head
from MedSeqFTLib.models.weights import frozen


class LearningWithoutForgetting(FineTuning):
    description = "Fine-tuning; on the new task's images the earlier heads are held to the previous model's answers."
    keeps = "nothing"
    relative_time = 1.5
    trains_earlier_heads = True
    depends_on = PLAIN_SETTINGS | {"lwf_weight", "lwf_temperature"}

    def task_loss(self, context: Context, backbone: Backbone, head: Head, earlier: Mapping[str, Head]) -> TaskLoss:
        data = task_sampler(context)
        if not earlier:
            return TaskLoss(backbone, head, data, context.compute)
        settings = StrategySettings.of(context.settings)
        previous = frozen(parent_backbone(context), context.compute.device)
        return _WithOldAnswers(
            backbone, head, data, context.compute, earlier, previous, parent_heads(context), settings
        )


class _WithOldAnswers(TaskLoss):
    """Knowledge distillation at a temperature (equation 2 of the paper) through every earlier head, averaged."""

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        data: PatchSampler,
        compute: Compute,
        earlier: Mapping[str, Head],
        previous: Backbone,
        previous_heads: Mapping[str, Head],
        settings: StrategySettings,
    ) -> None:
        super().__init__(backbone, head, data, compute)
        self._earlier, self._previous, self._previous_heads = earlier, previous, previous_heads
        self._weight_of_old, self._temperature = settings.lwf_weight, settings.lwf_temperature

    def beside(self, image: Tensor, features: Features) -> Mapping[str, Tensor]:
        with torch.no_grad(), self._compute.autocast():
            before = self._previous(image)
            wanted = {task: head(before) for task, head in self._previous_heads.items()}
        with self._compute.autocast():
            answers = {task: head(features) for task, head in self._earlier.items()}
        distances = [self._distance(answers[task], wanted[task]) for task in wanted]
        return {"earlier answers": self._weight_of_old * torch.stack(distances).mean()}

    def _distance(self, answer: Tensor, wanted: Tensor) -> Tensor:
        """Mean over voxels of the divergence of softened class probabilities, times the temperature squared."""
        soft, target = ((logits.float() / self._temperature).log_softmax(1) for logits in (answer, wanted))
        divergence = kl_div(soft, target, reduction="none", log_target=True).sum(1)
        return divergence.mean() * self._temperature**2
