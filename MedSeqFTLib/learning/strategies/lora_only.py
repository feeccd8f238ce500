"""LoRA alone: every task has a low-rank change of the foundation model of its own."""

from __future__ import annotations

from pathlib import Path

from MedSeqFTLib.learning.losses import TaskLoss
from MedSeqFTLib.learning.settings import StrategySettings
from MedSeqFTLib.learning.stages import (
    ChainModel,
    Context,
    TaskModel,
    first_head,
    parent_backbone,
    task_sampler,
    train,
)
from MedSeqFTLib.learning.strategies.base import PLAIN_SETTINGS, Learned, Strategy
from MedSeqFTLib.learning.student import low_rank_student
from MedSeqFTLib.models.lora import merge, save_adapter

STAGE = "LoRA"


class LoraOnly(Strategy):
    description = "The foundation model stays as it is; each task trains low-rank adapters and a head of its own."
    keeps = "nothing; one adapter a task"
    relative_time = 1.05
    begins_with = "foundation model"
    single_model = "own parts"
    depends_on = PLAIN_SETTINGS | {"lora_rank", "lora_alpha", "lora_rate"}

    def learn(self, context: Context, folder: Path) -> Learned:
        settings = StrategySettings.of(context.settings)
        student, head = low_rank_student(context, parent_backbone(context), context.parent), first_head(context)
        loss = TaskLoss(student, head, task_sampler(context), context.compute)
        train(context, STAGE, {"student": student, "head": head}, loss, settings.stage_a_steps, settings.lora_rate)
        save_adapter(student, folder / "adapter")
        model = TaskModel(merge(student), head)
        return Learned(model, ChainModel(model.backbone, {context.task: head}))
