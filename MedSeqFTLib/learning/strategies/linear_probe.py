"""Linear probe: the foundation model is frozen, only a head is trained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

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
from MedSeqFTLib.models.backbone import Backbone, Features
from MedSeqFTLib.models.weights import frozen

STAGE = "head"


class LinearProbe(Strategy):
    description = "The foundation model stays as it is; each task trains a head (a pointwise convolution) alone."
    keeps = "nothing; one head a task"
    relative_time = 0.4
    begins_with = "foundation model"
    single_model = "own parts"
    depends_on = PLAIN_SETTINGS | {"probe_rate"}

    def learn(self, context: Context, folder: Path) -> Learned:
        settings = StrategySettings.of(context.settings)
        backbone, head = frozen(parent_backbone(context), context.compute.device), first_head(context)
        loss = TaskLoss(_WithoutGradient(backbone), head, task_sampler(context), context.compute)
        train(context, STAGE, {"head": head}, loss, settings.stage_a_steps, settings.probe_rate)
        return Learned(TaskModel(backbone, head), ChainModel(backbone, {context.task: head}))


class _WithoutGradient(nn.Module):
    """A frozen backbone whose activations need not be kept for a backward pass."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self._backbone = backbone

    def forward(self, image: Tensor) -> Features:
        with torch.no_grad():
            return self._backbone(image)
