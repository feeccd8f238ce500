"""MedSeqFT: full fine-tuning with a teacher on the buffers (stage A), then a low-rank hand-over (stage B)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import prod
from pathlib import Path

from peft import PeftModel
from torch import Tensor

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.sampling import PatchSampler
from MedSeqFTLib.learning.forecast import STAGE_A, STAGE_B, expected_stages, imitates_earlier, second_part
from MedSeqFTLib.learning.losses import TaskLoss, affordable, every, in_turn, together
from MedSeqFTLib.learning.retention import FeatureRetention, Imitation, Teacher
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.learning.stages import (
    ChainModel,
    Context,
    TaskModel,
    buffer_samplers,
    first_head,
    own_model,
    parent_backbone,
    parent_heads,
    task_sampler,
    train,
    trainable_copies,
)
from MedSeqFTLib.learning.strategies.base import BUFFER_SETTINGS, PLAIN_SETTINGS, Learned, Strategy
from MedSeqFTLib.learning.student import low_rank_student
from MedSeqFTLib.learning.training import Losses
from MedSeqFTLib.models.backbone import Backbone, Features
from MedSeqFTLib.models.head import Head
from MedSeqFTLib.models.lora import load_adapter, merge, save_adapter, start_like
from MedSeqFTLib.models.weights import frozen, load_backbone

ADAPTER = "adapter"
HALF = 0.5  # of a batch: what stage B draws of the task, and of an earlier one


class MedSeqFT(Strategy):
    description = "Fine-tuning with feature distillation on the buffers; a low-rank change is handed on."
    keeps = "images of K cases a task"
    keeps_cases = True
    depends_on = (
        PLAIN_SETTINGS
        | BUFFER_SETTINGS
        | frozenset(
            "stage_a_teacher feature_weight feature_interval stage_b_steps stage_b_learning_rate stage_b_base "
            "stage_b_start stage_b_data stage_b_bank served_by distil distil_earlier_tasks earlier_teacher "
            "earlier_weight earlier_volume lora_rank lora_alpha".split()
        )
    )

    def expected_steps(self, settings: AdaptSettings, earlier: int) -> float:
        return sum(steps for _, steps in expected_stages(settings, earlier))

    def learn(self, context: Context, folder: Path) -> Learned:
        task_model = stage_a(context)
        chain = stage_b(context, task_model, folder / ADAPTER)
        if context.settings.served_by == "stage B":
            task_model = TaskModel(chain.backbone, chain.heads[context.task])
        return Learned(task_model, chain)


def task_model_only(context: Context, name: str) -> TaskModel:
    """The model that would segment the task, by a training whose stages are called so; nothing is handed on."""
    model = stage_a(context, name)
    if context.settings.served_by == "stage A":
        return model
    with context.workspace.staging() as folder:
        chain = stage_b(context, model, folder / ADAPTER, second_part(name))
    return TaskModel(chain.backbone, chain.heads[context.task])


def stage_a(context: Context, name: str = STAGE_A) -> TaskModel:
    """Full fine-tuning of the parent on the task, held in place by a teacher on the buffers."""
    settings = context.settings
    model = TaskModel(parent_backbone(context), first_head(context))
    losses = together(
        TaskLoss(model.backbone, model.head, task_sampler(context), context.compute),
        every(settings.feature_interval, _retention(context, model.backbone)),
    )
    modules = {"backbone": model.backbone, "head": model.head}
    train(context, name, modules, losses, settings.stage_a_steps, settings.stage_a_learning_rate)
    return model


def _retention(context: Context, backbone: Backbone) -> Losses:
    settings = context.settings
    version = {"parent": context.parent, "foundation": context.foundation}.get(settings.stage_a_teacher)
    if version is None or not settings.feature_weight:
        return in_turn()
    teacher = frozen(load_backbone(context.workspace, version), context.compute.device)
    samplers = buffer_samplers(context, list(context.buffers)).values()
    weight, compute = settings.feature_weight, context.compute
    return in_turn(*(FeatureRetention(backbone, teacher, buffer, weight, compute) for buffer in samplers))


def stage_b(context: Context, teacher: TaskModel, adapter_folder: Path, name: str = STAGE_B) -> ChainModel:
    """A low-rank change that imitates `teacher` on the task, and on earlier tasks their own models or the parent.

    The adapter is written to `adapter_folder` in peft's format before it is merged.
    """
    settings = context.settings
    before = parent_heads(context)
    heads = trainable_copies({**before, context.task: teacher.head})
    student = _student(context, teacher.backbone)
    task = Teacher(
        frozen(teacher.backbone, context.compute.device),
        frozen(teacher.head, context.compute.device),
        _task_data(context),
        context.compute,
        settings.stage_b_bank,
    )
    losses = together(
        Imitation(student, heads[context.task], task, settings, context.compute),
        _earlier(context, student, heads, before),
    )
    modules = {"student": student, **{f"head of {name}": head for name, head in heads.items()}}
    train(context, name, modules, losses, settings.stage_b_steps, settings.stage_b_learning_rate)
    save_adapter(student, adapter_folder)
    return ChainModel(merge(student), heads)


def _student(context: Context, teacher: Backbone) -> PeftModel:
    """M_{t-1} or M_0 with low-rank adapters, which begin with what stage A changed or where they were before."""
    settings = context.settings
    version = context.parent if settings.stage_b_base == "parent" else context.foundation
    base = load_backbone(context.workspace, version).to(context.compute.device)
    student = low_rank_student(context, base, version)
    if settings.stage_b_start == "stage A":
        start_like(student, teacher)
    elif context.parent.id != version.id:
        load_adapter(student, context.workspace.version_folder(context.parent.id) / ADAPTER)
    return student


def _task_data(context: Context) -> PatchSampler:
    if context.settings.stage_b_data != "buffers":
        return task_sampler(context, HALF)
    own = buffer_samplers(context, [context.task])
    if not own:
        raise InputError("stage_b_data 'buffers' needs a buffer of the present task; selection 'none' keeps none.")
    return own[context.task]


def _earlier(context: Context, student: PeftModel, heads: Mapping[str, Head], before: Mapping[str, Head]) -> Losses:
    settings, compute = context.settings, context.compute
    if not imitates_earlier(settings):
        return together()
    teacher = _teachers(context, student, before)
    samplers = buffer_samplers(context, list(before))
    terms = [
        Imitation(
            student,
            heads[task],
            Teacher(*teacher(task), data, compute, settings.stage_b_bank),
            settings,
            compute,
            f"{task} ",
            settings.earlier_weight,
        )
        for task, data in samplers.items()
    ]
    costs = [prod(data.patch) for data in samplers.values()]
    volume = Fraction(settings.earlier_volume) * prod(context.plan.patch)
    return affordable(terms, costs, volume or Fraction(sum(costs)))


def _teachers(
    context: Context, student: PeftModel, before: Mapping[str, Head]
) -> Callable[[str], tuple[Callable[[Tensor], Features], Head]]:
    """Who knows an earlier task best, backbone and head: its own model, or what the parent still knows of it."""
    if context.settings.earlier_teacher == "own models":
        return lambda task: own_model(context, task)
    parent = _parent(context, student)
    return lambda task: (parent, before[task])


class _WithoutAdapters:
    """The student's base as a teacher: no second copy of it in memory."""

    def __init__(self, student: PeftModel) -> None:
        self._student = student

    def __call__(self, image: Tensor) -> Features:
        with self._student.disable_adapter():
            return self._student(image)


def _parent(context: Context, student: PeftModel) -> _WithoutAdapters | Backbone:
    if context.settings.stage_b_base == "parent":
        return _WithoutAdapters(student)
    return frozen(parent_backbone(context), context.compute.device)
