"""The one interface of all strategies: how a model learns one task after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor

from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.learning.stages import ChainModel, Context, TaskModel

#: What every training on a task's patches depends on.
PLAIN_SETTINGS = frozenset(
    "precision batch_size weight_decay stage_a_steps stage_a_learning_rate preparation spacing patch_side augment "
    "overlap".split()
)
BUFFER_SETTINGS = frozenset(
    "selection buffer_share buffer_minimum buffer_size buffers selection_estimator selection_z selection_passes "
    "pretrain_steps".split()
)


@dataclass(frozen=True)
class Learned:
    """What a stage leaves behind.

    task_model segments the task from now on; chain is handed on and segments every task so far. They may share their
    modules. `memory` are further tensors by file name, which the strategy's next stage finds with the version.
    """

    task_model: TaskModel
    chain: ChainModel
    memory: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


class Strategy(ABC):
    """How a model learns one task after another. All get the same cases, patches, augmentation, seeds and steps."""

    description: ClassVar[str]
    keeps: ClassVar[str]  # what of earlier tasks has to be kept, apart from the model handed on
    begins_with: ClassVar[Literal["foundation model", "previous model"]] = "previous model"
    all_at_once: ClassVar[bool] = False  # learns all tasks in one stage and needs all their data
    keeps_cases: ClassVar[bool] = False  # needs a buffer
    #: Whether one model segments all tasks: the chain; a shared backbone with small parts of each task's own, which
    #: later stages do not touch; or none.
    single_model: ClassVar[Literal["chain", "own parts", "none"]] = "chain"

    #: The settings that its result depends on; others can be changed without computing it again.
    depends_on: ClassVar[frozenset[str]] = PLAIN_SETTINGS
    #: Time of a stage over that of full fine-tuning with as many steps; see `expected_steps`.
    relative_time: ClassVar[float] = 1.0

    def expected_steps(self, settings: AdaptSettings, earlier: int) -> float:
        """The time of a stage after so many `earlier` tasks, in steps of full fine-tuning; only forecasts use it."""
        return self.relative_time * settings.stage_a_steps

    @abstractmethod
    def learn(self, context: Context, folder: Path) -> Learned:
        """Learn the context's task. Files for the version may be written into `folder`.

        Raises:
            JobError: the loss became unusable.
            WorkspaceError: a stored file is damaged.
        """
