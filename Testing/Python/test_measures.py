"""Dice, HD95 and NSD of held-out cases, their means, and what has no figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from learning_samples import LABELS, ball_workspace
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from workspace_samples import a_version, weights_folder

from MedSeqFTLib.evaluation.averages import empty_references, mean, mean_dice, missed, per_label, per_label_dice
from MedSeqFTLib.evaluation.metrics import measure_case
from MedSeqFTLib.learning.data import read_case
from MedSeqFTLib.learning.held_out import TOLERANCE, known_scores, measure
from MedSeqFTLib.models.segmenter import Segmenter
from MedSeqFTLib.workspace.schema import CaseScore, Role, TaskPlan, TaskScores
from MedSeqFTLib.workspace.workspace import Workspace

SPACING = (2.5, 1.1, 0.7)  # z, y, x
BALL, SHELL = LABELS  # values 1 and 4
LabelMap = NDArray[np.uint8]


def blobs(seed: int, shape: tuple[int, int, int]) -> tuple[LabelMap, LabelMap]:
    """Rough structures of the values 1 and 4 that run through the whole volume to its borders, and others like them."""
    first, second = gaussian_filter(np.random.default_rng(seed).normal(size=(2, *shape)), (0, 1, 1, 1))
    values = (first, first + second)
    return tuple(np.select([v > 0.1, v < -0.1], [1, 4], 0).astype(np.uint8) for v in values)


def box(shape: tuple[int, int, int], *sides: tuple[int, int]) -> LabelMap:
    array = np.zeros(shape, np.uint8)
    array[tuple(slice(*side) for side in sides)] = BALL.value
    return array


def only(score: CaseScore) -> tuple[float | None, float | None, float | None]:
    """The figures of the ball."""
    return score.dice[BALL.name], score.hd95[BALL.name], score.nsd[BALL.name]


def uncropped(prediction: LabelMap, reference: LabelMap, value: int, tolerance: float) -> tuple[float, float, float]:
    """MONAI's figures from the whole arrays."""
    masks = [torch.from_numpy(array == value)[None, None] for array in (prediction, reference)]
    options: dict[str, Any] = {"include_background": True, "spacing": SPACING}
    return (
        float(compute_dice(*masks)),
        float(compute_hausdorff_distance(*masks, percentile=95, **options)),
        float(compute_surface_dice(*masks, class_thresholds=[tolerance], **options)),
    )


def surface(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Places (mm) of the voxels with a neighbour over a face that is background; beyond the volume all is."""
    around = np.pad(mask, 1)
    inner = np.ones_like(mask)
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(around, step, axis)[1:-1, 1:-1, 1:-1]
    return np.argwhere(mask & ~inner) * np.array(SPACING)


def by_definition(prediction: LabelMap, reference: LabelMap, value: int, tolerance: float) -> tuple[float, float]:
    """HD95 and NSD from all distances between all surface voxels."""
    distances = cdist(surface(prediction == value), surface(reference == value))
    nearest = [distances.min(axis=axis) for axis in (1, 0)]
    return (
        max(float(np.percentile(found, 95)) for found in nearest),
        float(np.mean(np.concatenate(nearest) <= tolerance)),
    )


def kept(array: LabelMap, *sides: slice) -> LabelMap:
    """Only what lies in this part; all else becomes background."""
    result = np.zeros_like(array)
    result[sides] = array[sides]
    return result


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("where", ["inside", "at the borders", "everywhere", "one slice"])
def test_the_crop_changes_no_figure(seed: int, where: str) -> None:
    prediction, reference = blobs(seed, (1, 13, 15) if where == "one slice" else (12, 13, 15))
    if where == "inside":
        reference = kept(reference, slice(3, 9), slice(2, 10), slice(3, 11))
        prediction = kept(prediction, slice(2, 8), slice(4, 12), slice(5, 14))
    elif where == "at the borders":
        reference = kept(reference, slice(12), slice(7), slice(6, 15))
        prediction = kept(prediction, slice(1, 11), slice(9), slice(8, 15))
    score = measure_case("c", prediction, reference, LABELS, SPACING, 1.5)
    for label in LABELS:
        found = score.dice[label.name], score.hd95[label.name], score.nsd[label.name]
        assert found == uncropped(prediction, reference, label.value, 1.5)
        assert found[1:] == pytest.approx(by_definition(prediction, reference, label.value, 1.5), rel=1e-5)
        assert 0 < (found[0] or 0) < 1
        assert 0 < (found[2] or 0) < 1


@pytest.mark.parametrize(("axis", "distance"), [(0, 2.5), (1, 1.1), (2, 0.7)])
def test_distances_are_mm_along_z_y_x(axis: int, distance: float) -> None:
    sides = [(3, 4)] * 3
    reference = box((8, 8, 8), *sides)
    sides[axis] = (4, 5)
    prediction = box((8, 8, 8), *sides)
    for tolerance, nsd in ((distance - 0.01, 0.0), (distance + 0.01, 1.0)):
        score = measure_case("c", prediction, reference, [BALL], SPACING, tolerance)
        assert only(score) == (0.0, pytest.approx(distance), nsd)


def test_hd95_leaves_out_the_farthest_twentieth() -> None:
    """One stray voxel among a hundred surface voxels is not seen, many are."""
    reference = box((1, 30, 30), (0, 1), (2, 12), (2, 12))  # 100 voxels, all of them surface in a single slice
    prediction = reference.copy()
    prediction[0, 28, 28] = BALL.value
    assert only(measure_case("c", prediction, reference, [BALL], SPACING, 1.0))[1] == 0
    prediction[0, 27:, 22:] = BALL.value
    assert (only(measure_case("c", prediction, reference, [BALL], SPACING, 1.0))[1] or 0) > 10


def test_what_is_empty_has_no_figure_and_what_is_missed_no_distance() -> None:
    empty, there = np.zeros((4, 4, 4), np.uint8), box((4, 4, 4), (1, 3), (1, 3), (1, 3))
    assert only(measure_case("c", empty, empty, [BALL], SPACING, 2.0)) == (None, None, None)
    assert only(measure_case("c", there, empty, [BALL], SPACING, 2.0)) == (None, None, None)
    assert only(measure_case("c", empty, there, [BALL], SPACING, 2.0)) == (0.0, None, 0.0)
    assert only(measure_case("c", there, there, [BALL], SPACING, 2.0)) == (1.0, 0.0, 1.0)


def test_only_the_labels_asked_for_are_measured() -> None:
    reference, prediction = np.array([[[1, 1, 0, 0]]], np.uint8), np.array([[[1, 0, 0, 4]]], np.uint8)
    score = measure_case("c", prediction, reference, LABELS, SPACING, 0.5)
    assert (score.dice, score.hd95, score.nsd) == (
        {"ball": pytest.approx(2 / 3), "shell": None},
        {"ball": pytest.approx(0.95 * 0.7), "shell": None},
        {"ball": pytest.approx(2 / 3), "shell": None},
    )
    assert measure_case("c", prediction, reference, [], SPACING, 0.5) == CaseScore(case="c", dice={})


def test_other_shapes_are_a_bug() -> None:
    with pytest.raises(ValueError, match="must have one shape"):
        measure_case("c", np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 5), np.uint8), LABELS, SPACING, 2.0)


def test_means_leave_out_what_is_undefined_and_count_it() -> None:
    scores = [
        CaseScore(case="a", dice={"ball": 0.5, "shell": None}, hd95={"ball": 4, "shell": None}, nsd={"ball": 0.6}),
        CaseScore(case="b", dice={"ball": 1.0, "shell": 0.25}, hd95={"ball": 2, "shell": 9}, nsd={"ball": 1.0}),
        CaseScore(case="c", dice={"ball": 0.0, "shell": None}, hd95={"ball": None, "shell": None}, nsd={"ball": 0.0}),
    ]
    assert per_label_dice(scores) == {"ball": 0.5, "shell": 0.25}
    assert per_label(scores, "hd95") == {"ball": 3, "shell": 9}
    assert per_label(scores, "nsd") == {"ball": pytest.approx(1.6 / 3)}
    assert (mean_dice(scores), mean(scores, "hd95")) == (0.375, 6)
    assert (empty_references(scores), empty_references(scores).total()) == ({"shell": 2}, 2)
    assert (missed(scores), missed(scores).total()) == ({"ball": 1}, 1)


def test_scores_without_surfaces_have_no_mean_and_no_miss() -> None:
    scores = [CaseScore(case="a", dice={"ball": 0.0, "shell": None})]
    assert (mean(scores, "dice"), mean(scores, "hd95"), mean(scores, "nsd")) == (0.0, None, None)
    assert not missed(scores)
    assert mean_dice([CaseScore(case="a", dice={"shell": None})]) is None


class OffByOneVoxel(Segmenter):
    """Answers with the references, in turn, each moved by one voxel along x."""

    def __init__(self, references: list[sitk.Image]) -> None:
        self._references = iter(references)

    def segment(self, image: sitk.Image, progress: Callable[[int, int], None] = lambda done, total: None) -> sitk.Image:
        reference = next(self._references)
        moved = sitk.GetImageFromArray(np.roll(sitk.GetArrayViewFromImage(reference), 1, axis=2))
        moved.CopyInformation(reference)
        return moved


def measured(workspace: Workspace) -> TaskScores:
    task, cases = workspace.task("balls"), workspace.cases("balls", Role.VALIDATION)
    plan = TaskPlan(labels=task.labels, intensity=task.intensity, spacing=(1, 1, 1), patch=(16, 16, 16))
    segmenter = OffByOneVoxel([read_case(workspace, case, plan)[1] for case in cases])
    return measure(workspace, segmenter, cases, plan, "per-task", "M1", lambda _score: None, lambda: None)


def test_held_out_cases_get_all_measures_in_mm_of_their_own_grid(tmp_path: Path) -> None:
    scores = measured(ball_workspace(tmp_path, train=0, validation=2))
    assert scores.tolerance == TOLERANCE == 2.0
    assert len(scores.cases) == 2
    for case in scores.cases:
        assert case.hd95 == {"ball": pytest.approx(1.5), "shell": pytest.approx(1.5)}  # spacing x, y, z: 1.5, 1.2, 2
        assert case.nsd == {"ball": 1.0, "shell": 1.0}
    assert scores.mean_dice == mean(scores.cases, "dice")
    assert TaskScores.model_validate_json(scores.model_dump_json()) == scores


@pytest.mark.filterwarnings("error")
def test_measuring_warns_of_nothing() -> None:
    mask = box((6, 6, 6), (1, 5), (1, 5), (1, 5))
    assert only(measure_case("c", mask, mask, [BALL], SPACING, TOLERANCE)) == (1.0, 0.0, 1.0)


def test_scores_with_another_tolerance_are_measured_again(tmp_path: Path) -> None:
    workspace = ball_workspace(tmp_path, train=0, validation=1)
    cases = workspace.cases("balls", Role.VALIDATION)
    scores = measured(workspace)
    for number, tolerance in enumerate((None, 1.0, TOLERANCE), start=1):
        assert known_scores(workspace, "balls", "per-task", "M1", cases) is None
        with workspace.staging() as folder:
            version = a_version(f"M{number}", weights_folder(folder), task="balls")
            recorded = (scores.model_copy(update={"tolerance": tolerance}),)
            workspace.publish(version.model_copy(update={"scores": recorded}), folder)
    assert known_scores(workspace, "balls", "per-task", "M1", cases) == scores
