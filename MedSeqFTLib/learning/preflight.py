"""What can be refused before a job is started. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.learning.selection.size import buffer_size
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.workspace.pruned import refuse_pruned
from MedSeqFTLib.workspace.schema import Case, ModelVersion, Reading, Role
from MedSeqFTLib.workspace.workspace import Workspace


def check_adaptable(workspace: Workspace, task: str, settings: AdaptSettings) -> None:
    """Refuse an adaptation that could learn nothing new, or could not select its buffer.

    Raises:
        InputError: the task has no training case, or none that its current version has not seen, or fewer than the
            buffer is to keep; or the foundation model lacks the pretext head that the selection needs.
    """
    workspace.task(task)
    foundation = workspace.foundation_of(workspace.chain_version())
    if foundation is not None:
        check_selection(foundation, settings)
    cases = workspace.cases(task, Role.TRAIN)
    if not cases:
        raise InputError(f"Task '{task}' has no training case: accept one with 'case add {task} --role train'.")
    buffer_size(len(cases), settings)
    if not new_cases(workspace, task):
        current = workspace.pointers().tasks[task]
        raise InputError(
            f"Task '{task}' has no new training case: version {current} has learned all {len(cases)} of them."
        )


def new_cases(workspace: Workspace, task: str) -> list[Case]:
    """The training cases of a task that its current version has not learned as they are now; all if there is none."""
    cases, current = workspace.cases(task, Role.TRAIN), workspace.current_version(task)
    if current is None:
        return cases
    return list(workspace.remembered.derived(("new", task, current.id), lambda: new_to(current, cases)))


def new_to(version: ModelVersion, cases: Sequence[Case]) -> list[Case]:
    """The training cases that a version has not learned as they are now: new ones, and those that were corrected."""
    trained = frozenset(version.train_cases)
    return [case for case in cases if case.id not in trained or _was_corrected(version, case)]


def _was_corrected(version: ModelVersion, case: Case) -> bool:
    """Since the version learned it."""
    first = case.revisions[0].segmentation_sha256 if case.revisions else case.segmentation_sha256
    return version.learned.get(case.id, first) != case.segmentation_sha256


def version_for(workspace: Workspace, task: str, version: str | None, reading: Reading) -> ModelVersion:
    """The version asked for, or the current one. Raises InputError if it cannot segment the task, WorkspaceError if its
    weights were pruned.
    """
    workspace.task(task)
    chosen = workspace.version(version) if version else workspace.current_version(task)
    if chosen is None:
        raise InputError(f"Task {task} has no model yet: accept training cases and run 'adapt {task}' first.")
    if task not in chosen.plans or (reading == "per-task" and chosen.task != task):
        serves = f"it segments {chosen.task}" if chosen.task else "it is a foundation model"
        raise InputError(f"Version {chosen.id} cannot segment task {task}: {serves}.")
    refuse_pruned(workspace.version_folder(chosen.id))
    return chosen


def check_selection(foundation: ModelVersion, settings: AdaptSettings) -> None:
    """Refuse MDS with a model that has no pretext head, rather than score with a random one. Raises InputError."""
    if settings.selection == "mds" and foundation.pretext is None:
        raise InputError(
            f"{foundation.id} has no pretext head, so MDS cannot score cases with it. Take --set "
            "selection=mds-substitute (a masked-reconstruction head, trained briefly on the task's own images with the "
            "backbone frozen), or selection=kmeans, random, all or none."
        )
