"""What every strategy builds a stage from: its data, the models it begins with, and training with checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from MedSeqFTLib.imaging.cache import PreparedCase, cache_key
from MedSeqFTLib.imaging.sampling import PatchSampler
from MedSeqFTLib.learning.data import PreparedData
from MedSeqFTLib.learning.progress import Reporter
from MedSeqFTLib.learning.publishing import recorded
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.learning.training import Losses, Training
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.head import Head, build_head
from MedSeqFTLib.models.weights import chain_head, frozen, load_backbone, load_head, load_task_model
from MedSeqFTLib.workspace.schema import Case, ModelVersion, Role, TaskPlan
from MedSeqFTLib.workspace.workspace import Workspace

Buffers = Mapping[str, tuple[str, ...]]  # task -> kept cases
_APART = 1_000_003  # between the seeds of two samplers


@dataclass(frozen=True)
class Context:
    """What a stage starts from. `prepared` holds the cases of `train` in their order.

    `buffers` are the cases kept of this and of earlier tasks. `beside` are tasks that are learned together with this
    one; only a strategy that needs all data at once looks at them.
    """

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
    buffers: Buffers = field(default_factory=dict)
    beside: Sequence[Context] = ()

    @property
    def plans(self) -> dict[str, TaskPlan]:
        """Of every task that has a head after this stage."""
        return {**self.parent.plans, **{other.task: other.plan for other in self.beside}, self.task: self.plan}

    @property
    def earlier(self) -> dict[str, TaskPlan]:
        """Of every task that the parent has a head for, apart from this one."""
        return {task: plan for task, plan in self.parent.plans.items() if task != self.task}

    def with_buffer(self, kept: tuple[str, ...]) -> Context:
        """The same stage, once its task's buffer is chosen."""
        before = self.parent.buffers if self.settings.buffers == "all tasks" else {}
        return replace(self, buffers={**before, self.task: kept})

    def identity(self, stage: str, *more: object) -> str:
        """Everything that the result of a stage depends on, for its checkpoint."""
        cases = [(case.id, case.image_sha256, case.segmentation_sha256) for case in self.train]
        beside = [other.identity("beside") for other in self.beside]
        start = (self.seed, self.parent.files, self.buffers, beside)
        return cache_key(stage, recorded(self.settings), self.plan, cases, *start, *more)


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


def parent_backbone(context: Context) -> Backbone:
    """M_{t-1}, to be trained."""
    return load_backbone(context.workspace, context.parent).to(context.compute.device)


def first_head(context: Context) -> Head:
    """h_t: a new one for a new task, the parent's where it knows the task."""
    if context.task in context.parent.plans:
        head = load_head(context.workspace, context.parent, chain_head(context.task), context.plan)
    else:
        head = build_head(context.parent.network, len(context.plan.labels) + 1, context.seed)
    return head.to(context.compute.device)


def parent_heads(context: Context) -> dict[str, Head]:
    """The parent's heads of the earlier tasks, frozen."""
    return {
        task: frozen(load_head(context.workspace, context.parent, chain_head(task), plan), context.compute.device)
        for task, plan in context.earlier.items()
    }


def own_model(context: Context, task: str) -> tuple[Backbone, Head]:
    """F_i and its head, frozen: what the newest stage on an earlier task in this lineage was served by.

    Raises WorkspaceError if a file is missing or damaged.
    """
    version = next((v for v in context.workspace.lineage(context.parent) if v.task == task), None)
    assert version is not None, "the parent has a head for every earlier task"
    backbone, head = load_task_model(context.workspace, version)
    return frozen(backbone, context.compute.device), frozen(head, context.compute.device)


def trainable_copies(heads: Mapping[str, Head]) -> dict[str, Head]:
    """Heads that are trained while the ones they are copied from stay as they are."""
    return {task: copy.deepcopy(head).requires_grad_(True) for task, head in heads.items()}


def task_sampler(context: Context, share: float = 1.0) -> PatchSampler:
    """Batches of the task's training cases, of a share of the usual size."""
    settings = context.settings
    size = max(1, round(share * settings.batch_size))
    return PatchSampler(context.prepared, context.plan.patch, size, context.seed, settings.augment)


def buffer_samplers(context: Context, tasks: Sequence[str]) -> dict[str, PatchSampler]:
    """Half batches of the kept cases of some tasks, each prepared by its plan; a task without any is left out."""
    data, half = PreparedData(context.workspace), max(1, context.settings.batch_size // 2)
    samplers = {}
    for number, task in enumerate(sorted(tasks)):
        kept = context.buffers.get(task, ())
        cases = [case for case in context.workspace.cases(task, Role.TRAIN) if case.id in kept]
        if cases:
            plan, seed = context.plans[task], context.seed + _APART * (number + 1)
            prepared = data.cases(cases, plan)
            samplers[task] = PatchSampler(prepared, plan.patch, half, seed, context.settings.augment)
    return samplers


def train(
    context: Context, name: str, modules: Mapping[str, nn.Module], losses: Losses, steps: int, learning_rate: float
) -> None:
    """Train the modules, with checkpoints in the reporter's folder. Raises JobError if the loss becomes unusable."""
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
        identity=context.identity(name),
    ).run()
