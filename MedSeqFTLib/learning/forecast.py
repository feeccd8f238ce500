"""How much work an adaptation is: its stages, and their sizes in steps of full fine-tuning. Torch-free.

The sizes were measured on a CPU. They only steer forecasts of time.
"""

from __future__ import annotations

from collections.abc import Sequence

from MedSeqFTLib.learning.folds import plan_folds
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.workspace import Workspace

PREPARATION, FOUNDATION, SUBSTITUTE = "prepare", "foundation", "substitute pretext head"
MDS_STAGE, CLUSTER_STAGE = "MDS selection", "k-means selection"
STAGE_A, STAGE_B, HELD_OUT = "stage A", "stage B", "held-out cases"
CROPS = 10  # of a case, from which k-means reads features
USUAL_PASSES = 80  # of a race, over all cases
_PREPARED_CASE, _HELD_OUT_CASE = 0.3, 2.0
_PASS = 0.2  # a forward pass over one crop
#: Stage A's look at a buffer, stage B's imitation of one task: means of Testing/Benchmarks/stage_costs.py.
_RETENTION_STEPS, _IMITATION_STEPS = 0.25, 0.6


def expected_adaptation(
    settings: AdaptSettings,
    cases: int,
    earlier: int,
    held_out: int,
    new_foundation: bool,
    folds: Sequence[float] = (),
) -> list[tuple[str, float]]:
    """All stages of an adaptation, in their order.

    Args:
        cases: training cases of the task.
        earlier: tasks that were learned before.
        held_out: held-out cases of this and of the earlier tasks.
        new_foundation: whether a foundation model is trained first.
        folds: cases that each fold of cross-validation leaves out.
    """
    pretraining = float(settings.pretrain_steps)
    return [
        (PREPARATION, _PREPARED_CASE * cases),
        *([(FOUNDATION, pretraining)] if new_foundation else []),
        *([(SUBSTITUTE, pretraining)] if settings.selection == "mds-substitute" else []),
        *expected_selection(settings, cases),
        *expected_folds(settings, earlier, folds),
        *expected_stages(settings, earlier),
        (HELD_OUT, _HELD_OUT_CASE * held_out),
    ]


def next_adaptation(workspace: Workspace, task: str, settings: AdaptSettings) -> list[tuple[str, float]]:
    """The stages of an adaptation of a workspace as it is now."""
    chain = workspace.chain_version()
    earlier = [name for name in (chain.plans if chain else {}) if name != task]
    own = workspace.cases(task)
    train = sum(case.role is Role.TRAIN for case in own)
    held_out = len(own) - train + sum(len(workspace.cases(name, Role.VALIDATION)) for name in earlier)
    new_foundation = chain is None and settings.foundation == "new"
    folds = plan_folds(workspace, task, settings).sizes
    return expected_adaptation(settings, train, len(earlier), held_out, new_foundation, folds)


def fold_stage(number: int, of: int) -> str:
    """The training of a fold, 1, 2, ..."""
    return f"fold {number} of {of}"


def fold_measured(number: int, of: int) -> str:
    """Measuring what the fold left out."""
    return f"{fold_stage(number, of)}, measured"


def second_part(name: str) -> str:
    """Stage B of a fold, where it makes the model that segments the task."""
    return f"{name}, stage B"


def expected_folds(settings: AdaptSettings, earlier: int, folds: Sequence[float]) -> list[tuple[str, float]]:
    """The recipe once more for each fold, and what it left out measured with it and with the current version."""
    units, found = dict(expected_stages(settings, earlier)), []
    for number, cases in enumerate(folds, start=1):
        name = fold_stage(number, len(folds))
        found.append((name, units[STAGE_A]))
        if settings.served_by == "stage B":
            found.append((second_part(name), units[STAGE_B]))
        found.append((fold_measured(number, len(folds)), 2 * _HELD_OUT_CASE * cases))
    return found


def expected_stages(settings: AdaptSettings, earlier: int) -> list[tuple[str, float]]:
    """Stages A and B after so many `earlier` tasks."""
    looks = settings.stage_a_teacher != "none" and settings.feature_weight > 0 and settings.selection != "none"
    stage_a_step = 1.0 + (_RETENTION_STEPS / settings.feature_interval if looks else 0.0)
    others = earlier if imitates_earlier(settings) and settings.buffers == "all tasks" else 0
    imitated = 1 + min(others, settings.earlier_volume or others)  # as if all patches had one size
    return [
        (STAGE_A, stage_a_step * settings.stage_a_steps),
        (STAGE_B, _IMITATION_STEPS * imitated * settings.stage_b_steps),
    ]


def expected_selection(settings: AdaptSettings, cases: int) -> list[tuple[str, float]]:
    """The stage that a selection of so many cases adds."""
    if settings.selection == "kmeans":
        return [(CLUSTER_STAGE, _PASS * cases * CROPS)]
    if settings.selection in ("mds", "mds-substitute"):
        usual = USUAL_PASSES if settings.selection_estimator == "racing" else settings.selection_passes
        return [(MDS_STAGE, _PASS * cases * min(settings.selection_passes, usual))]
    return []


def imitates_earlier(settings: AdaptSettings) -> bool:
    """Whether stage B imitates anybody on the buffers of earlier tasks."""
    return settings.distil_earlier_tasks and settings.stage_b_data != "task"
