"""Stage A and stage B of one adaptation, put together from the workspace's versions and cases."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from MedSeqFTLib.imaging.cache import PreparedCase, cache_key
from MedSeqFTLib.imaging.sampling import PatchSampler
from MedSeqFTLib.learning.data import PreparedData
from MedSeqFTLib.learning.progress import Reporter
from MedSeqFTLib.learning.publishing import recorded
from MedSeqFTLib.learning.retention import StageA, StageB, TaskBuffer
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.learning.training import Losses, Training
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.head import Head, build_head
from MedSeqFTLib.models.lora import attach_lora, merge, save_adapter
from MedSeqFTLib.models.weights import BACKBONE, chain_head, frozen, load_backbone, load_head
from MedSeqFTLib.workspace.schema import Case, ModelVersion, Role, TaskPlan
from MedSeqFTLib.workspace.workspace import Workspace

Buffers = Mapping[str, tuple[str, ...]]  # task -> kept cases


@dataclass(frozen=True)
class Context:
    """What both stages start from. `prepared` holds the cases of `train` in their order."""

    workspace: Workspace
    reporter: Reporter
    settings: AdaptSettings
    compute: Compute
    seed: int
    task: str
    plan: TaskPlan
    parent: ModelVersion
    foundation: ModelVersion
    train: Sequence[Case]
    prepared: Sequence[PreparedCase]

    def identity(self, stage: str, *more: object) -> str:
        """Everything that the result of a stage depends on, for its checkpoint."""
        cases = [(case.id, case.image_sha256, case.segmentation_sha256) for case in self.train]
        return cache_key(stage, recorded(self.settings), self.plan, cases, self.seed, self.parent.files, *more)


@dataclass(frozen=True)
class TaskModel:
    """F_t: segments the task."""

    backbone: Backbone
    head: Head


@dataclass(frozen=True)
class ChainModel:
    """M_t with a head for each of its tasks: handed on to the next stage."""

    backbone: Backbone
    heads: Mapping[str, Head]


def stage_a(context: Context, buffers: Buffers) -> TaskModel:
    """Full fine-tuning of the parent on the task, held in place by a teacher on the buffers."""
    device = context.compute.device
    model = TaskModel(load_backbone(context.workspace, context.parent).to(device), _first_head(context).to(device))
    losses = StageA(
        model.backbone,
        model.head,
        _stage_a_teacher(context),
        _task_sampler(context),
        _buffer_samplers(context, buffers),
        context.settings,
        context.compute,
    )
    _train(
        context,
        "stage A",
        {"backbone": model.backbone, "head": model.head},
        losses,
        context.settings.stage_a_steps,
        context.settings.stage_a_learning_rate,
        context.identity("stage A", buffers),
    )
    return model


def _first_head(context: Context) -> Head:
    """h_t: a new one for a new task, the parent's where it knows the task."""
    if context.task in context.parent.plans:
        return load_head(context.workspace, context.parent, chain_head(context.task), context.plan)
    return build_head(context.parent.network, len(context.plan.labels) + 1, context.seed)


def _stage_a_teacher(context: Context) -> Backbone | None:
    versions = {"parent": context.parent, "foundation": context.foundation}
    version = versions.get(context.settings.stage_a_teacher)
    return frozen(load_backbone(context.workspace, version), context.compute.device) if version else None


def stage_b(context: Context, buffers: Buffers, teacher: TaskModel, adapter_folder: Path) -> ChainModel:
    """A low-rank change of the parent that imitates `teacher` on the task, and the parent on earlier tasks.

    The adapter is written to `adapter_folder` in peft's format before it is merged.
    """
    device = context.compute.device
    plans = {task: plan for task, plan in context.parent.plans.items() if task != context.task}
    parent_heads = {
        task: frozen(load_head(context.workspace, context.parent, chain_head(task), plan), device)
        for task, plan in plans.items()
    }
    heads = {
        task: copy.deepcopy(head).requires_grad_(True)
        for task, head in {**parent_heads, context.task: teacher.head}.items()
    }
    base = load_backbone(context.workspace, context.parent).to(device)
    settings = context.settings
    origin = f"{context.parent.id} sha256:{context.parent.files[BACKBONE]}"
    student = attach_lora(base, settings.lora_rank, settings.lora_alpha, context.seed, origin, context.parent.lora).to(
        device
    )
    losses = StageB(
        student,
        heads,
        context.task,
        frozen(teacher.backbone, device),
        frozen(teacher.head, device),
        parent_heads,
        _task_sampler(context),
        _buffer_samplers(context, {task: kept for task, kept in buffers.items() if task in plans}),
        settings,
        context.compute,
    )
    _train(
        context,
        "stage B",
        {"student": student, **{f"head of {task}": head for task, head in heads.items()}},
        losses,
        settings.stage_b_steps,
        settings.stage_b_learning_rate,
        context.identity("stage B", buffers),
    )
    save_adapter(student, adapter_folder)
    return ChainModel(merge(student), heads)


def _train(
    context: Context,
    name: str,
    modules: Mapping[str, nn.Module],
    losses: Losses,
    steps: int,
    learning_rate: float,
    identity: str,
) -> None:
    Training(
        name,
        modules,
        losses,
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=context.settings.weight_decay,
        compute=context.compute,
        reporter=context.reporter,
        checkpoint_seconds=context.settings.checkpoint_seconds,
        identity=identity,
    ).run()


def _task_sampler(context: Context) -> PatchSampler:
    settings = context.settings
    return PatchSampler(context.prepared, context.plan.patch, settings.batch_size, context.seed, settings.augment)


def _buffer_samplers(context: Context, buffers: Buffers) -> list[TaskBuffer]:
    """Half batches of each task's kept cases, prepared as that task's plan says."""
    data = PreparedData(context.workspace)
    plans = {**context.parent.plans, context.task: context.plan}
    samplers = []
    for number, (task, kept) in enumerate(sorted(buffers.items())):
        cases = [case for case in context.workspace.cases(task, Role.TRAIN) if case.id in kept]
        if cases:
            half = max(1, context.settings.batch_size // 2)
            seed = context.seed + 1_000_003 * (number + 1)  # another random sequence for every sampler
            prepared, plan = data.cases(cases, plans[task]), plans[task]
            samplers.append(TaskBuffer(task, PatchSampler(prepared, plan.patch, half, seed, context.settings.augment)))
    return samplers
