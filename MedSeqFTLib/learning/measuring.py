"""What a new version is worth: held-out Dice of this and of every earlier task, before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from MedSeqFTLib.evaluation.averages import mean_dice
from MedSeqFTLib.learning.forecast import HELD_OUT
from MedSeqFTLib.learning.held_out import known_scores, measure
from MedSeqFTLib.learning.stages import ChainModel, Context, TaskModel
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.head import Head
from MedSeqFTLib.models.segmenter import Segmenter
from MedSeqFTLib.models.weights import chain_head, load_backbone, load_head, load_task_model
from MedSeqFTLib.workspace.schema import Case, CaseScore, Reading, Role, TaskPlan, TaskScores

CANDIDATE = "candidate"  # stands for the version's id until that is known

Model = tuple[Backbone, Head]


@dataclass(frozen=True)
class Measurement:
    """One model on the held-out cases of one task."""

    task: str
    reading: Reading
    version: str
    plan: TaskPlan
    cases: Sequence[Case]
    model: Callable[[], Model]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.task}{' (one model)' if self.reading == 'single-model' else ''}: {self.version}"


def measure_all(context: Context, task_model: TaskModel, chain_model: ChainModel) -> list[TaskScores]:
    """All measurements of an adaptation. What was measured before of an unchanged version is not measured again.

    Raises WorkspaceError if a held-out case is damaged.
    """
    wanted = [m for m in _measurements(context, task_model, chain_model) if m.cases]
    found = [known_scores(context.workspace, m.task, m.reading, m.version, m.cases) for m in wanted]
    missing = [m for m, scores in zip(wanted, found, strict=True) if scores is None]
    context.reporter.stage(HELD_OUT, sum(len(m.cases) for m in missing))
    done = 0

    def after_case(measured: Measurement, score: CaseScore) -> None:
        nonlocal done
        done += 1
        context.reporter.step(done, dice={measured.name: mean_dice([score])})

    return [scores or _measure(context, m, partial(after_case, m)) for m, scores in zip(wanted, found, strict=True)]


def _measure(context: Context, wanted: Measurement, after_case: Callable[[CaseScore], None]) -> TaskScores:
    segmenter = Segmenter(*wanted.model(), wanted.plan, context.compute, context.settings.overlap)
    return measure(
        context.workspace,
        segmenter,
        wanted.cases,
        wanted.plan,
        wanted.reading,
        wanted.version,
        after_case,
        context.reporter.check_cancel,
    )


def _measurements(context: Context, task_model: TaskModel, chain_model: ChainModel) -> list[Measurement]:
    workspace, parent = context.workspace, context.parent
    plans = {**parent.plans, context.task: context.plan}
    result = []
    for task, plan in plans.items():
        cases = workspace.cases(task, Role.VALIDATION)
        current = workspace.current_version(task)
        if current is not None:
            served = current.plan(task)
            result.append(
                Measurement(task, "per-task", current.id, served, cases, partial(load_task_model, workspace, current))
            )
        if task in parent.plans:
            result.append(
                Measurement(task, "single-model", parent.id, plan, cases, partial(_parent_model, context, task))
            )
        result.append(Measurement(task, "single-model", CANDIDATE, plan, cases, partial(_chained, chain_model, task)))
    cases = workspace.cases(context.task, Role.VALIDATION)
    model = (task_model.backbone, task_model.head)
    return [*result, Measurement(context.task, "per-task", CANDIDATE, context.plan, cases, lambda: model)]


def _chained(model: ChainModel, task: str) -> Model:
    return model.backbone, model.heads[task]


def _parent_model(context: Context, task: str) -> Model:
    head = load_head(context.workspace, context.parent, chain_head(task), context.parent.plan(task))
    return load_backbone(context.workspace, context.parent), head
