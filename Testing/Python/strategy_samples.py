"""Two tiny tasks and stages of any strategy on them, in the test's own process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from learning_samples import Notes, add_balls, ball_task, ball_workspace

from MedSeqFTLib.learning.data import PreparedData, make_plan
from MedSeqFTLib.learning.publishing import publish_foundation, save_modules
from MedSeqFTLib.learning.selection.choice import with_chosen_buffer
from MedSeqFTLib.learning.settings import StrategySettings
from MedSeqFTLib.learning.stage_version import publish_stage
from MedSeqFTLib.learning.stages import Context
from MedSeqFTLib.learning.strategies.base import Learned
from MedSeqFTLib.learning.strategies.registry import REGISTRY
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.models.weights import BACKBONE, PRETEXT_HEAD
from MedSeqFTLib.workspace.networks import MaskedReconstructionDescription, ResidualUNetDescription
from MedSeqFTLib.workspace.schema import ExpectedInput, ModelVersion, Role
from MedSeqFTLib.workspace.workspace import Workspace

CPU = Compute(torch.device("cpu"), torch.float32)
SMALL = ResidualUNetDescription(channels=(4, 8), decoder_features=4)
PRETEXT = MaskedReconstructionDescription(block=4)
FIRST, SECOND = "balls", "more-balls"
FEW = {
    "stage_a_steps": 6,
    "stage_b_steps": 6,
    "stage_a_learning_rate": 1e-2,
    "selection": "random",
    "lora_rank": 2,
    "lora_alpha": 4,
    "augment": False,
    "ewc_patches": 4,
    "feature_interval": 1,
}


def two_tasks(folder: Path) -> Workspace:
    """A workspace with two tasks and a foundation model with fixed random weights, M0."""
    workspace = ball_workspace(folder, train=3, validation=1)
    second = workspace.add_task(ball_task(SECOND))
    (folder / "second").mkdir()
    add_balls(workspace, folder / "second", second, range(10, 13), Role.TRAIN)
    add_balls(workspace, folder / "second", second, range(110, 111), Role.VALIDATION)
    with workspace.staging() as staged:
        save_modules(staged, {BACKBONE: build_backbone(SMALL, 3), PRETEXT_HEAD: build_pretext(PRETEXT, SMALL, 3)})
        expected = ExpectedInput(intensity={}, patch=(16, 16, 16))
        publish_foundation(workspace, staged, SMALL, "random weights", pretext=PRETEXT, input=expected)
    return workspace


def context(workspace: Workspace, folder: Path, task: str, parent: ModelVersion, **changes: object) -> Context:
    """A stage that has not begun."""
    settings = StrategySettings.model_validate({**FEW, **changes})
    foundation, train = workspace.version("M0"), workspace.cases(task, Role.TRAIN)
    plan = make_plan(workspace, workspace.task(task), train, None, foundation, settings)
    folder.mkdir(parents=True, exist_ok=True)
    return Context(
        workspace=workspace,
        reporter=Notes(folder),
        settings=settings,
        compute=CPU,
        seed=1,
        task=task,
        plan=plan,
        parent=parent,
        foundation=foundation,
        train=train,
        prepared=PreparedData(workspace).cases(train, plan),
    )


def stage(kind: str, before: Context) -> tuple[ModelVersion, Learned]:
    """Learn and publish."""
    strategy, selection = REGISTRY[kind], None
    if strategy.keeps_cases:
        before, selection = with_chosen_buffer(before)
    with before.workspace.staging() as folder:
        learned = strategy.learn(before, folder)
        return publish_stage(before, learned, folder, job=None, selection=selection), learned


def chain(
    workspace: Workspace, folder: Path, kind: str, **changes: object
) -> tuple[ModelVersion, ModelVersion, Learned]:
    """Both tasks one after the other."""
    before, _ = stage(kind, context(workspace, folder / "first", FIRST, workspace.version("M0"), **changes))
    parent = before if REGISTRY[kind].begins_with == "previous model" else workspace.version("M0")
    after, learned = stage(kind, context(workspace, folder / "second", SECOND, parent, **changes))
    return before, after, learned


def beside(one: Context, other: Context) -> Context:
    """Two tasks to be learned at the same time."""
    return replace(one, beside=(other,))
