"""A stored case that is corrected again: nothing of it is lost, and what has learned it knows what it learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import workspace_samples as samples
from imaging_samples import one_line
from learning_samples import LABELS, add_balls, ball_scan, ball_task

from MedSeqFTLib.errors import InputError, StorageError
from MedSeqFTLib.imaging.confidence import Confidence
from MedSeqFTLib.imaging.revision import revise
from MedSeqFTLib.imaging.segmentations import read_label_map, write_label_map, write_seg_nrrd
from MedSeqFTLib.imaging.sliding_window import predict_classes
from MedSeqFTLib.imaging.volumes import write_volume
from MedSeqFTLib.learning.held_out import TOLERANCE, known_scores
from MedSeqFTLib.learning.preflight import new_to
from MedSeqFTLib.workspace import cases
from MedSeqFTLib.workspace.schema import Case, CaseScore, ModelVersion, Role, TaskScores
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """With the case "case1" of scan 1."""
    found = Workspace.create(tmp_path / "workspace")
    add_balls(found, tmp_path, found.add_task(ball_task()), range(1, 2), Role.TRAIN)
    return found


def correct(workspace: Workspace, folder: Path, planes: int = 10, image: int = 1) -> Case:
    """Erase the first planes."""
    label_map = ball_scan(image)[1]
    array = sitk.GetArrayFromImage(label_map)
    array[:planes] = 0
    corrected = sitk.GetImageFromArray(array)
    corrected.CopyInformation(label_map)
    write_seg_nrrd(corrected, LABELS, folder / "corrected.seg.nrrd")
    write_volume(ball_scan(image)[0], folder / "again.nrrd")
    task = workspace.task("balls")
    return revise(workspace, task, "case1", folder / "again.nrrd", folder / "corrected.seg.nrrd", by="me", seconds=12.5)


def test_every_segmentation_stays_readable(workspace: Workspace, tmp_path: Path) -> None:
    first = workspace.case("balls", "case1")
    second = correct(workspace, tmp_path, 10)
    third = correct(workspace, tmp_path, 12)
    assert workspace.case("balls", "case1") == third
    assert [revision.segmentation_sha256 for revision in third.revisions] == [
        first.segmentation_sha256,
        second.segmentation_sha256,
    ]
    assert (third.role, third.image_sha256, third.pixel_sha256) == (first.role, first.image_sha256, first.pixel_sha256)
    assert (third.accepted_by, third.seconds_spent, third.revisions[1].seconds_spent) == ("me", 12.5, 12.5)
    workspace.verify_case(third)
    stored = [
        sitk.GetArrayFromImage(read_label_map(path, LABELS).image) for path, _ in workspace.segmentation_paths(third)
    ]
    expected = sitk.GetArrayFromImage(ball_scan(1)[1])
    np.testing.assert_array_equal(stored[0], expected)
    np.testing.assert_array_equal(stored[1][10:], expected[10:])
    assert not stored[1][:10].any()
    assert not stored[2][:12].any()
    assert workspace.segmentation_path(third).name == "segmentation-3.seg.nrrd"
    assert workspace.segmentation_path(first).is_file()  # whoever reads it just now goes on


def test_a_damaged_earlier_segmentation_is_found(workspace: Workspace, tmp_path: Path) -> None:
    case = correct(workspace, tmp_path)
    workspace.segmentation_paths(case)[0][0].write_bytes(b"flipped")
    with pytest.raises(Exception, match="segmentation.seg.nrrd is damaged"):
        workspace.verify_case(case)


def test_another_image_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    before = samples.tree(workspace.folder)
    one_line(InputError, lambda: correct(workspace, tmp_path, image=2), "case1", "voxels or its place differ")
    assert samples.tree(workspace.folder) == before


def test_a_write_that_fails_changes_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record cannot be written after the file was: the case is what it was, and may be corrected again."""
    before = workspace.case("balls", "case1")

    def full(*_: object) -> None:
        raise StorageError("Cannot write: the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(cases, "write_json", full)
        with pytest.raises(StorageError):
            correct(workspace, tmp_path, 12)
    assert workspace.case("balls", "case1") == before
    workspace.verify_case(before)
    again = correct(workspace, tmp_path, 10)
    workspace.verify_case(again)
    assert sitk.GetArrayFromImage(read_label_map(workspace.segmentation_path(again), LABELS).image)[10:].any()


def version(**changes: object) -> ModelVersion:
    fields = {"train_cases": ("case1",), **changes}
    return samples.a_version("M1", Path("nowhere"), "balls", "M0").model_copy(update=fields)


def test_a_corrected_case_is_new_to_a_version_that_learned_it_before(workspace: Workspace, tmp_path: Path) -> None:
    first = workspace.case("balls", "case1")
    learned = version(learned={"case1": first.segmentation_sha256})
    older = version()  # of a program that did not note it
    assert new_to(version(train_cases=()), [first])
    assert not new_to(learned, [first])
    assert not new_to(older, [first])
    second = correct(workspace, tmp_path)
    assert new_to(learned, [second])
    assert new_to(older, [second])
    assert not new_to(version(learned={"case1": second.segmentation_sha256}), [second])


def test_scores_against_an_earlier_segmentation_are_not_taken_for_those_of_today(
    workspace: Workspace, tmp_path: Path
) -> None:
    first = workspace.case("balls", "case1")

    def found(reference: str | None) -> TaskScores | None:
        score = CaseScore(case="case1", dice={"ball": 0.5}, reference=reference)
        scores = TaskScores(
            task="balls", reading="per-task", version="M1", cases=(score,), mean_dice=0.5, tolerance=TOLERANCE
        )
        holder = version(scores=(scores,))

        class Versions(Workspace):
            def versions(self) -> list[ModelVersion]:
                return [holder]

        return known_scores(
            Versions(workspace.folder, workspace.info), "balls", "per-task", "M1", workspace.cases("balls")
        )

    assert found(first.segmentation_sha256)
    assert found(None)
    second = correct(workspace, tmp_path)
    assert found(first.segmentation_sha256) is None
    assert found(None) is None
    assert found(second.segmentation_sha256)


def test_confidence_is_the_mean_probability_of_what_is_segmented() -> None:
    scores = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]])[:, None, None]  # [classes, 1, 1, 3]: background, 1, 1
    expected = (torch.tensor([0.0, 1.0]).softmax(0)[1] + torch.tensor([1.0, 3.0]).softmax(0)[1]) / 2
    confidence = Confidence()
    confidence.take(scores)
    assert confidence.mean == pytest.approx(float(expected))
    weighted = Confidence()
    weighted.take(4 * scores, torch.full(scores.shape[1:], 4.0))
    assert weighted.mean == pytest.approx(float(expected))
    assert Confidence().mean is None


@pytest.mark.parametrize("output", [None, (31, 36, 30)])
def test_windows_and_a_finer_grid_do_not_change_what_confidence_means(output: tuple[int, int, int] | None) -> None:
    """A network whose answer is the same everywhere: however windows overlap, it is as sure as its softmax."""
    image = np.zeros((20, 24, 20), np.float32)

    def predict(windows: torch.Tensor) -> torch.Tensor:
        scores = torch.zeros((len(windows), 3, *windows.shape[2:]))
        scores[:, 2] = 1.5
        return scores

    confidence = Confidence()
    classes = predict_classes(predict, image, (16, 16, 16), output_shape=output, confidence=confidence)
    assert (classes == 2).all()
    assert confidence.mean == pytest.approx(float(torch.tensor([0.0, 0.0, 1.5]).softmax(0)[2]), rel=1e-5)


def test_a_plain_label_map_can_be_a_correction(workspace: Workspace, tmp_path: Path) -> None:
    image, label_map = ball_scan(1)
    write_volume(image, tmp_path / "again.nrrd")
    write_label_map(label_map * 0 + 1, tmp_path / "labels.nrrd")
    case = revise(workspace, workspace.task("balls"), "case1", tmp_path / "again.nrrd", tmp_path / "labels.nrrd")
    assert case.label_voxels == {"ball": label_map.GetNumberOfPixels()}
