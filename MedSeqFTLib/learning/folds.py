"""Cross-validation of an adaptation where few cases are held out: which cases are left out in turn. Torch-free."""

from __future__ import annotations

from typing import NamedTuple

from MedSeqFTLib.evaluation.gate import ENOUGH
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.workspace.schema import Case, Role
from MedSeqFTLib.workspace.workspace import Workspace


class FoldPlan(NamedTuple):
    """The cases that each fold leaves out; none: `why_not` tells why, "" if none are wanted."""

    folds: tuple[tuple[Case, ...], ...] = ()
    why_not: str = ""

    @property
    def sizes(self) -> list[int]:
        """Cases of each fold."""
        return [len(fold) for fold in self.folds]


def plan_folds(workspace: Workspace, task: str, settings: AdaptSettings) -> FoldPlan:
    """The folds of the next adaptation. Raises WorkspaceError if a record is damaged."""
    held_out = len(workspace.cases(task, Role.VALIDATION))
    if not settings.cross_validation or held_out >= ENOUGH:
        return FoldPlan()
    unseen = unseen_cases(workspace, task)
    count = min(settings.cross_validation, len(unseen))
    if count < 2:
        return FoldPlan((), f"it needs two training cases that no model of this lineage has learned; there is {count}")
    return FoldPlan(tuple(tuple(unseen[number::count]) for number in range(count)))


def unseen_cases(workspace: Workspace, task: str) -> list[Case]:
    """Training cases that neither the current version nor the chain nor what they came from has learned in any form."""
    cases, starts = workspace.cases(task, Role.TRAIN), (workspace.current_version(task), workspace.chain_version())

    def unseen() -> list[Case]:
        lineage = (version for start in starts for version in workspace.lineage(start) if version.task == task)
        seen = {case for version in lineage for case in version.train_cases}
        return [case for case in cases if case.id not in seen]

    return list(workspace.remembered.derived(("unseen", task, *(start and start.id for start in starts)), unseen))
