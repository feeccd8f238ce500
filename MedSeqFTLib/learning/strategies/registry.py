"""From the name of a strategy to the strategy."""

from __future__ import annotations

from collections.abc import Mapping

from MedSeqFTLib.learning.strategies.base import Strategy
from MedSeqFTLib.learning.strategies.ewc import ElasticWeightConsolidation
from MedSeqFTLib.learning.strategies.linear_probe import LinearProbe
from MedSeqFTLib.learning.strategies.lora_only import LoraOnly
from MedSeqFTLib.learning.strategies.lwf import LearningWithoutForgetting
from MedSeqFTLib.learning.strategies.medseqft import MedSeqFT
from MedSeqFTLib.learning.strategies.multi_task import MultiTask
from MedSeqFTLib.learning.strategies.parallel import Parallel
from MedSeqFTLib.learning.strategies.replay import Replay
from MedSeqFTLib.learning.strategies.sequential import Sequential

#: The same names as in strategies.names.STRATEGIES.
REGISTRY: Mapping[str, Strategy] = {
    "parallel": Parallel(),
    "multi-task": MultiTask(),
    "sequential": Sequential(),
    "lwf": LearningWithoutForgetting(),
    "ewc": ElasticWeightConsolidation(),
    "replay": Replay(),
    "lora": LoraOnly(),
    "linear-probe": LinearProbe(),
    "medseqft": MedSeqFT(),
}
