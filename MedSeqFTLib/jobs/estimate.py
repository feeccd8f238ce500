"""How long an adaptation will take, from how long the last one took in this workspace. Torch-free, and quick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.events import events_of_kind, last_event
from MedSeqFTLib.jobs.job import JobFolder
from MedSeqFTLib.learning.folds import plan_folds
from MedSeqFTLib.learning.forecast import expected_adaptation, next_adaptation
from MedSeqFTLib.learning.settings import AdaptSettings, of_job
from MedSeqFTLib.workspace.schema import ModelVersion
from MedSeqFTLib.workspace.workspace import Workspace


@dataclass(frozen=True)
class Estimate:
    """`seconds` is None as long as no adaptation was measured here; `job` is the one that was."""

    steps: int  # of training, both stages together, and those of cross-validation
    seconds: float | None = None
    job: str = ""
    folds: int = 0  # of cross-validation


def estimate(workspace: Workspace, task: str, settings: AdaptSettings) -> Estimate:
    """A guess for the next adaptation: the time of the last one that ran in one go, in proportion to the work.

    Raises WorkspaceError if a record is damaged.
    """
    folds = len(plan_folds(workspace, task, settings).folds)
    again = settings.stage_a_steps + (settings.stage_b_steps if settings.served_by == "stage B" else 0)
    steps = settings.stage_a_steps + settings.stage_b_steps + folds * again
    for folder in reversed(control.list_jobs(workspace)):
        measured = _measured(workspace, folder) if folder.job.kind == "adapt" else None
        if measured is not None:
            work = _units(next_adaptation(workspace, task, settings))
            return Estimate(steps, measured.to_begin + measured.per_unit * work, folder.id, folds)
    return Estimate(steps, folds=folds)


class _Measured(NamedTuple):
    """Seconds: until the first stage began, and for a unit of work."""

    to_begin: float
    per_unit: float


def _measured(workspace: Workspace, folder: JobFolder) -> _Measured | None:
    """None of a job that is not finished, was resumed (its pauses are no work), or is of another MedSeqFT."""
    last = last_event(folder.events_path)
    if last is None or last.kind != "finished" or last.version is None:
        return None
    starts, stages = (events_of_kind(folder.events_path, kind) for kind in ("started", "stage"))
    if len(starts) != 1 or not stages:
        return None
    try:
        settings = of_job(AdaptSettings, folder.job.settings)
    except InputError:  # its settings were others
        return None
    work = _units(_work_of(workspace.version(last.version), settings))
    began = stages[0].time
    return _Measured((began - starts[0].time).total_seconds(), (last.time - began).total_seconds() / work)


def _work_of(version: ModelVersion, settings: AdaptSettings) -> list[tuple[str, float]]:
    held_out = {(scores.task, case.case) for scores in version.scores for case in scores.cases}
    return expected_adaptation(
        settings,
        cases=len(version.train_cases),
        earlier=sum(task != version.task for task in version.plans),
        held_out=len(held_out),
        new_foundation=False,
        folds=_fold_sizes(version),
    )


def _fold_sizes(version: ModelVersion) -> list[float]:
    found = version.cross_validation
    return [len(found.recipe.cases) / found.folds] * found.folds if found else []


def _units(stages: Sequence[tuple[str, float]]) -> float:
    return sum(units for _, units in stages)
