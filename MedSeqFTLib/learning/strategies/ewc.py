"""Elastic weight consolidation (Kirkpatrick et al., PNAS 2017): weights that earlier tasks need are hard to move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from MedSeqFTLib.imaging.sampling import PatchSampler
from MedSeqFTLib.learning.losses import TaskLoss
from MedSeqFTLib.learning.settings import StrategySettings
from MedSeqFTLib.learning.stages import Context, TaskModel
from MedSeqFTLib.learning.strategies.base import PLAIN_SETTINGS
from MedSeqFTLib.learning.strategies.fine_tuning import FineTuning
from MedSeqFTLib.learning.training import Losses
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.head import Head
from MedSeqFTLib.models.weights import load_memory

IMPORTANCE = "importance.safetensors"


class ElasticWeightConsolidation(FineTuning):
    description = "Fine-tuning with a penalty on moving weights that were important for earlier tasks (online EWC)."
    keeps = "one importance per weight"
    depends_on = PLAIN_SETTINGS | {"ewc_weight", "ewc_patches"}
    relative_time = 1.1

    def terms(self, context: Context, backbone: Backbone, earlier: Mapping[str, Head]) -> Sequence[Losses]:
        if not earlier:
            return ()
        importance = _on(context, load_memory(context.workspace, context.parent, IMPORTANCE))
        return (_Anchored(backbone, importance, StrategySettings.of(context.settings).ewc_weight),)

    def memory(self, context: Context, model: TaskModel) -> Mapping[str, Mapping[str, Tensor]]:
        """Importance summed over the tasks so far; the anchor is the model that is handed on."""
        new = fisher(context, model)
        if not context.earlier:
            return {IMPORTANCE: new}
        before = _on(context, load_memory(context.workspace, context.parent, IMPORTANCE))
        return {IMPORTANCE: {name: before[name] + value for name, value in new.items()}}


class _Anchored:
    """weight / 2 * sum of importance times squared distance from where the weights were."""

    def __init__(self, backbone: nn.Module, importance: Mapping[str, Tensor], weight: float) -> None:
        parameters = dict(backbone.named_parameters())
        self._anchored = [(p, p.detach().clone(), importance[name]) for name, p in parameters.items()]
        self._weight = weight

    def __call__(self, step: int) -> Mapping[str, Tensor]:
        parts = [(importance * (p - anchor).square()).sum() for p, anchor, importance in self._anchored]
        return {"earlier tasks": 0.5 * self._weight * torch.stack(parts).sum()}


def fisher(context: Context, model: TaskModel) -> dict[str, Tensor]:
    """The diagonal of the empirical Fisher information: mean squared gradient of one patch's loss, by parameter.

    It is divided by its mean over all parameters, so that the penalty's weight means the same for every task.
    """
    settings = StrategySettings.of(context.settings)
    data = PatchSampler(context.prepared, context.plan.patch, 1, context.seed, settings.augment)
    loss = TaskLoss(model.backbone, model.head, data, context.compute)
    parameters = dict(model.backbone.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for step in range(settings.ewc_patches):
        value = torch.stack(list(loss(step).values())).sum()
        gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient.square()
    mean = sum(float(value.sum()) for value in total.values()) / sum(value.numel() for value in total.values())
    return {name: value / mean for name, value in total.items()}


def _on(context: Context, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(context.compute.device) for name, tensor in tensors.items()}
