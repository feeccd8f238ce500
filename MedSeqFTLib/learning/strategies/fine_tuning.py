"""Full fine-tuning, the base of most strategies: every weight learns the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from MedSeqFTLib.learning.losses import TaskLoss, together
from MedSeqFTLib.learning.stages import (
    ChainModel,
    Context,
    TaskModel,
    first_head,
    parent_backbone,
    parent_heads,
    task_sampler,
    train,
    trainable_copies,
)
from MedSeqFTLib.learning.strategies.base import Learned, Strategy
from MedSeqFTLib.learning.training import Losses
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.head import Head

STAGE = "fine-tuning"


class FineTuning(Strategy):
    """Dice plus cross-entropy on the task; what a strategy adds to it, it says in `task_loss` and `terms`."""

    trains_earlier_heads: ClassVar[bool] = False

    def learn(self, context: Context, folder: Path) -> Learned:
        backbone, head = parent_backbone(context), first_head(context)
        before = parent_heads(context)
        earlier = trainable_copies(before) if self.trains_earlier_heads else before
        trained: dict[str, nn.Module] = {"backbone": backbone, "head": head}
        if self.trains_earlier_heads:
            trained |= {f"head of {task}": module for task, module in earlier.items()}
        losses = together(self.task_loss(context, backbone, head, earlier), *self.terms(context, backbone, earlier))
        settings = context.settings
        train(context, STAGE, trained, losses, settings.stage_a_steps, settings.stage_a_learning_rate)
        model = TaskModel(backbone, head)
        chain = ChainModel(backbone, {**earlier, context.task: head})
        return Learned(model, chain, self.memory(context, model))

    def task_loss(self, context: Context, backbone: Backbone, head: Head, earlier: Mapping[str, Head]) -> TaskLoss:
        """The loss on the task's batches."""
        return TaskLoss(backbone, head, task_sampler(context), context.compute)

    def terms(self, context: Context, backbone: Backbone, earlier: Mapping[str, Head]) -> Sequence[Losses]:
        """Further losses, with batches of their own or none."""
        return ()

    def memory(self, context: Context, model: TaskModel) -> Mapping[str, Mapping[str, Tensor]]:
        """What the next stage will need beside the model."""
        return {}
