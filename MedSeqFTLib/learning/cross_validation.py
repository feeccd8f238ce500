"""An adaptation's recipe, judged on training cases that it does not see: trained again without them, fold by fold.

The current version has never seen these cases either, so the two are compared fairly. A fold's model has learned fewer
cases than the new version will: what is measured is the recipe, not the version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from MedSeqFTLib.evaluation.averages import mean_dice
from MedSeqFTLib.learning.folds import plan_folds
from MedSeqFTLib.learning.forecast import fold_measured, fold_stage
from MedSeqFTLib.learning.held_out import measure
from MedSeqFTLib.learning.measuring import CANDIDATE, Model
from MedSeqFTLib.learning.memory import in_memory
from MedSeqFTLib.learning.stages import Context
from MedSeqFTLib.learning.strategies.medseqft import task_model_only
from MedSeqFTLib.learning.training import checkpoint_path, random_states, restore_random_states
from MedSeqFTLib.models.segmenter import Segmenter
from MedSeqFTLib.models.weights import load_task_model
from MedSeqFTLib.workspace.files import read_json, write_json
from MedSeqFTLib.workspace.schema import Case, CaseScore, CrossValidation, Document, ModelVersion, TaskScores


class FoldFile(Document):
    """fold-N.json in the job's folder: what was measured, and all that it depends on. A killed job reads it back."""

    identity: str
    recipe: TaskScores
    current: TaskScores | None = None


def cross_validate(context: Context) -> CrossValidation | None:
    """Train and measure every fold. None where it is not wanted, or impossible, which is told.

    Raises:
        JobError: the loss became unusable, or memory does not suffice.
        WorkspaceError: a stored file is damaged.
        StorageError: the disk is full.
    """
    folds, why_not = plan_folds(context.workspace, context.task, context.settings)
    if why_not:
        context.reporter.message(f"No cross-validation: {why_not}. It goes on without.")
    if not folds:
        return None
    current = context.workspace.current_version(context.task)
    found = [_fold(context, current, left_out, number, len(folds)) for number, left_out in enumerate(folds, start=1)]
    before = [fold.current for fold in found if fold.current is not None]
    return CrossValidation(
        folds=len(folds),
        recipe=_joined([fold.recipe for fold in found]),
        current=_joined(before) if before else None,
    )


def without(context: Context, left_out: Sequence[Case]) -> Context:
    """The same adaptation without some training cases, which its buffer does not show it either."""
    names = {case.id for case in left_out}
    rest = [(case, data) for case, data in zip(context.train, context.prepared, strict=True) if case.id not in names]
    kept = context.buffers.get(context.task, ())
    others = tuple(case.id for case, _ in rest)[: len(kept)]
    buffer = tuple(name for name in kept if name not in names) or others
    return replace(
        context,
        train=[case for case, _ in rest],
        prepared=[data for _, data in rest],
        buffers={**context.buffers, context.task: buffer},
    )


def _fold(context: Context, current: ModelVersion | None, left_out: Sequence[Case], number: int, of: int) -> FoldFile:
    name, path = fold_stage(number, of), context.reporter.folder / f"fold-{number}.json"
    less = without(context, left_out)
    identity = less.identity(name, current.files if current else {}, [case.segmentation_sha256 for case in left_out])
    if path.exists():
        stored = read_json(path, FoldFile)
        if stored.identity == identity:
            return stored
    states = random_states()  # what follows is as it would be without folds, and after a kill as without one
    model = in_memory(less, lambda fitting: task_model_only(fitting, name))
    models: dict[str, Model] = {CANDIDATE: (model.backbone, model.head)}
    if current is not None:
        models[current.id] = load_task_model(context.workspace, current)
    scores = _measured(less, models, left_out, fold_measured(number, of))
    restore_random_states(states)
    found = FoldFile(identity=identity, recipe=scores[0], current=scores[1] if current else None)
    write_json(path, found)
    checkpoint_path(context.reporter.folder, name).unlink(missing_ok=True)
    return found


def _measured(context: Context, models: dict[str, Model], cases: Sequence[Case], stage: str) -> list[TaskScores]:
    """Every model on the cases of a fold."""
    reporter, done = context.reporter, 0
    reporter.stage(stage, len(models) * len(cases))

    def after_case(_score: CaseScore) -> None:
        nonlocal done
        done += 1
        reporter.step(done)

    found = []
    for version, model in models.items():
        segmenter = Segmenter(*model, context.plan, context.compute, context.settings.overlap)
        scores = measure(
            context.workspace, segmenter, cases, context.plan, "per-task", version, after_case, reporter.check_cancel
        )
        found.append(scores)
    return found


def _joined(parts: Sequence[TaskScores]) -> TaskScores:
    cases = tuple(case for part in parts for case in part.cases)
    return parts[0].model_copy(update={"cases": cases, "mean_dice": mean_dice(cases)})
