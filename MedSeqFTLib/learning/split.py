"""Which role the next accepted cases should get while fewer than five are held out. Roles are permanent. Torch-free.

One held out to three for training, but at least two (one alone gives no interval) and no more than the five that make
an interval less rough: our choice.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from MedSeqFTLib.evaluation.gate import ENOUGH, FEWEST
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.workspace import Workspace

_TRAIN_TO_ONE = 3  # training cases to each held-out one


class Split(NamedTuple):
    """What there is, and how many of the next cases should get which role."""

    train: int
    held_out: int
    role: Role
    next_cases: int

    def __str__(self) -> str:
        """A sentence."""
        have = f"{self.held_out} of {self.train + self.held_out} cases are held out, fewer than {ENOUGH}"
        if self.role is Role.VALIDATION:
            return f"{have}: hold out the next {self.next_cases} (role validation)."
        return f"{have}: give the next {self.next_cases} the role train, then hold one out (role validation)."


def suggested_split(train: int, held_out: int) -> Split | None:
    """What to do with the next cases; None where enough are held out."""
    if held_out >= ENOUGH:
        return None
    wanted = min(ENOUGH, max(FEWEST, math.ceil(train / _TRAIN_TO_ONE)))
    if held_out < wanted:
        return Split(train, held_out, Role.VALIDATION, wanted - held_out)
    return Split(train, held_out, Role.TRAIN, _TRAIN_TO_ONE * held_out + 1 - train)


def split_of(workspace: Workspace, task: str) -> Split | None:
    """For a task as it is now. Raises InputError for an unknown one."""
    roles = [case.role for case in workspace.cases(task)]
    return suggested_split(roles.count(Role.TRAIN), roles.count(Role.VALIDATION))
