"""What can be refused before a job is started. Torch-free."""

from __future__ import annotations

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.workspace import Workspace


def check_adaptable(workspace: Workspace, task: str) -> None:
    """Refuse an adaptation that could learn nothing new.

    Raises:
        InputError: the task has no training case, or none that its current version has not seen.
    """
    workspace.task(task)
    cases = {case.id for case in workspace.cases(task, Role.TRAIN)}
    if not cases:
        raise InputError(f"Task '{task}' has no training case: accept one with 'case add {task} --role train'.")
    current = workspace.current_version(task)
    if current is not None and cases <= set(current.train_cases):
        raise InputError(
            f"Task '{task}' has no new training case: version {current.id} has learned all {len(cases)} of them."
        )
