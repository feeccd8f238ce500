"""Experience replay: labelled cases of earlier tasks are trained on along with the new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from MedSeqFTLib.learning.losses import TaskLoss, in_turn
from MedSeqFTLib.learning.settings import StrategySettings
from MedSeqFTLib.learning.stages import Context, buffer_samplers
from MedSeqFTLib.learning.strategies.base import BUFFER_SETTINGS, PLAIN_SETTINGS
from MedSeqFTLib.learning.strategies.fine_tuning import FineTuning
from MedSeqFTLib.learning.training import Losses
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.head import Head


class Replay(FineTuning):
    description = "Fine-tuning on the new task and, half as many patches a step, on kept cases of one earlier task."
    keeps = "images and labels of K cases a task"
    relative_time = 1.5
    keeps_cases = True
    trains_earlier_heads = True
    depends_on = PLAIN_SETTINGS | BUFFER_SETTINGS | {"replay_weight"}

    def terms(self, context: Context, backbone: Backbone, earlier: Mapping[str, Head]) -> Sequence[Losses]:
        weight = StrategySettings.of(context.settings).replay_weight
        samplers = buffer_samplers(context, list(earlier))
        return (
            in_turn(
                *(
                    TaskLoss(backbone, earlier[task], data, context.compute, "earlier tasks", weight)
                    for task, data in samplers.items()
                )
            ),
        )
