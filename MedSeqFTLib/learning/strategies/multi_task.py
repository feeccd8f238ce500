"""Multi-task fine-tuning: all tasks at once, with all their data. An upper bound in spirit, not a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from MedSeqFTLib.learning.losses import TaskLoss
from MedSeqFTLib.learning.stages import (
    ChainModel,
    Context,
    TaskModel,
    first_head,
    parent_backbone,
    task_sampler,
    train,
)
from MedSeqFTLib.learning.strategies.base import Learned, Strategy
from MedSeqFTLib.learning.training import Losses

STAGE = "fine-tuning on all tasks"


class MultiTask(Strategy):
    description = "Full fine-tuning of the foundation model on all tasks together; as many steps in all as the others."
    keeps = "all data of all tasks"
    begins_with = "foundation model"
    all_at_once = True

    def learn(self, context: Context, folder: Path) -> Learned:
        contexts = [*context.beside, context]
        backbone = parent_backbone(context)
        heads = {one.task: first_head(one) for one in contexts}
        losses = [TaskLoss(backbone, heads[one.task], task_sampler(one), one.compute, one.task) for one in contexts]
        steps = [one.settings.stage_a_steps for one in contexts]
        modules = {"backbone": backbone, **{f"head of {task}": head for task, head in heads.items()}}
        rate = context.settings.stage_a_learning_rate
        train(context, STAGE, modules, mixed(losses, steps, context.seed), sum(steps), rate)
        return Learned(TaskModel(backbone, heads[context.task]), ChainModel(backbone, heads))


def mixed(terms: list[TaskLoss], steps: list[int], seed: int) -> Losses:
    """One task a step in random order, each for its own number of steps and from its own first step on."""
    order = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(steps)), steps))
    place = np.zeros(len(order), int)
    for term in range(len(steps)):
        place[order == term] = np.arange(steps[term])

    def losses(step: int) -> Mapping[str, Tensor]:
        return terms[order[step]](int(place[step]))

    return losses
