"""Measuring model versions on held-out cases, on the grid of the source images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import SimpleITK as sitk

from MedSeqFTLib.evaluation.averages import mean_dice
from MedSeqFTLib.evaluation.metrics import measure_case
from MedSeqFTLib.learning.data import read_case
from MedSeqFTLib.models.segmenter import Segmenter
from MedSeqFTLib.workspace.schema import Case, CaseScore, Reading, TaskPlan, TaskScores, Vector3
from MedSeqFTLib.workspace.workspace import Workspace

#: mm, of the normalised surface Dice. Our choice, one for all structures; it is stored with every score.
TOLERANCE = 2.0


def measure(
    workspace: Workspace,
    segmenter: Segmenter,
    cases: Sequence[Case],
    plan: TaskPlan,
    reading: Reading,
    version: str,
    after_case: Callable[[CaseScore], None],
    check_cancel: Callable[[], None],
) -> TaskScores:
    """Dice, HD95 and NSD of every case. Raises WorkspaceError if a case is damaged."""
    scores = []
    for case in cases:
        image, reference = read_case(workspace, case, plan)
        result = segmenter.segment(image, lambda done, total: check_cancel())
        known = [label for label in plan.labels if label.name in case.label_voxels]
        predicted, referred = sitk.GetArrayViewFromImage(result), sitk.GetArrayViewFromImage(reference)
        score = measure_case(case.id, predicted, referred, known, _along_arrays(case.spacing), TOLERANCE)
        scores.append(score.model_copy(update={"reference": case.segmentation_sha256}))
        after_case(scores[-1])
    return TaskScores(
        task=cases[0].task,
        reading=reading,
        version=version,
        cases=tuple(scores),
        mean_dice=mean_dice(scores),
        tolerance=TOLERANCE,
    )


def _along_arrays(spacing: Vector3) -> Vector3:
    """A document's x, y, z in the order of arrays, z, y, x."""
    x, y, z = spacing
    return z, y, x


def known_scores(
    workspace: Workspace, task: str, reading: Reading, version: str, cases: Sequence[Case]
) -> TaskScores | None:
    """What was measured before of an immutable version on exactly these cases, with the present tolerance."""
    wanted = {case.id: case.segmentation_sha256 for case in cases}
    first = {case.id: workspace.segmentation_paths(case)[0][1] for case in cases}
    recorded = (holder.measured(task, version, reading) for holder in workspace.versions())
    return next(
        (s for s in recorded if s and s.tolerance == TOLERANCE and _references(s, first) == wanted),
        None,
    )


def _references(scores: TaskScores, first: Mapping[str, str]) -> dict[str, str | None]:
    """What each case was measured against; older programs, which did not note it, knew the first segmentation only."""
    return {score.case: score.reference or first.get(score.case) for score in scores.cases}
