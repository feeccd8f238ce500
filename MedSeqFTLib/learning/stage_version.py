"""From what a stage learned to an immutable model version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from MedSeqFTLib.learning.measuring import CANDIDATE
from MedSeqFTLib.learning.publishing import next_version, recorded, save_modules, software
from MedSeqFTLib.learning.stages import Context
from MedSeqFTLib.learning.strategies.base import Learned
from MedSeqFTLib.models.checkpoints import write_tensors
from MedSeqFTLib.models.weights import BACKBONE, TASK_BACKBONE, chain_head, file_hashes, task_head
from MedSeqFTLib.workspace.files import storage_errors
from MedSeqFTLib.workspace.schema import CrossValidation, ModelVersion, Role, Selection, TaskScores


def publish_stage(
    context: Context,
    learned: Learned,
    folder: Path,
    *,
    job: str,
    selection: Selection | None,
    scores: Sequence[TaskScores] = (),
    cross_validation: CrossValidation | None = None,
    note: str = "",
) -> ModelVersion:
    """Publish a stage's models with everything they came from. `folder` is a staging folder of the workspace.

    Raises StorageError.
    """
    _save(folder, context.task, learned)
    with next_version(context.workspace) as name:
        version = ModelVersion(
            id=name,
            kind="adapted",
            parent=context.parent.id,
            task=context.task,
            job=job,
            network=context.parent.network,
            lora=context.parent.lora,
            plans={task: plan for task, plan in context.plans.items() if task in learned.chain.heads},
            train_cases=tuple(case.id for case in context.train),
            learned={case.id: case.segmentation_sha256 for case in context.train},
            validation_cases=tuple(case.id for case in context.workspace.cases(context.task, Role.VALIDATION)),
            buffers=dict(context.buffers),
            selection=selection,
            scores=tuple(_named(score, name) for score in scores),
            cross_validation=_named_folds(cross_validation, name),
            settings={**recorded(context.settings), "seed": context.seed, "computed on": str(context.compute)},
            software=software(),
            files=file_hashes(folder),
            note=note,
        )
        return context.workspace.publish(version, folder)


def _save(folder: Path, task: str, learned: Learned) -> None:
    heads: dict[str, nn.Module] = {chain_head(name): head for name, head in learned.chain.heads.items()}
    save_modules(
        folder,
        {
            BACKBONE: learned.chain.backbone,
            TASK_BACKBONE: learned.task_model.backbone,
            task_head(task): learned.task_model.head,
            **heads,
        },
    )
    for name, tensors in learned.memory.items():
        with storage_errors(folder / name):
            write_tensors({key: tensor.detach().cpu() for key, tensor in tensors.items()}, folder / name, {})


def _named_folds(found: CrossValidation | None, version: str) -> CrossValidation | None:
    return found and found.model_copy(update={"recipe": _named(found.recipe, version)})


def _named(scores: TaskScores, version: str) -> TaskScores:
    return scores.model_copy(update={"version": version}) if scores.version == CANDIDATE else scores
