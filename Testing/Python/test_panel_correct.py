"""Correcting and accepting from the window: real clicks, real nodes, real workers."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
from learning_samples import LABELS, add_balls, ball_scan
from panel_samples import (
    add_drawn,
    add_proposal,
    add_scan,
    edit,
    fill,
    open_workspace,
    stored,
)
from slicer_program import Window, scene, window  # noqa: F401  # fixtures
from slicer_samples import slicer

from MedSeqFTLib.imaging.segmentations import read_label_map
from MedSeqFTLib.scene.marks import is_edited
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(untrained_copy: Workspace) -> Workspace:
    return untrained_copy


def choose(window: Window, volume: Any, segmentation: Any) -> None:  # noqa: F811
    window.choose(window.ui.segmentVolumeSelector, volume.GetName())
    window.choose(window.ui.segmentationSelector, segmentation.GetName())


def voxels(workspace: Workspace, case: Any, number: int = -1) -> np.ndarray:
    path = workspace.segmentation_paths(case)[number][0]
    return sitk.GetArrayFromImage(read_label_map(path, LABELS).image)


def test_drawing_from_nothing_and_accepting(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session, ui = open_workspace(window, workspace), window.ui
    assert (ui.acceptButton.enabled, ui.acceptButton.toolTip) == (False, "Choose a volume above first.")
    volume = add_scan()
    window.choose(ui.segmentVolumeSelector, "scan")
    assert ui.acceptButton.toolTip == "Choose a segmentation, or make a new one."
    window.click(ui.newSegmentationButton)
    node = session.parameters.segmentation
    assert [segment.name for segment in segments(node)] == ["ball", "shell"]
    assert "empty" in ui.acceptButton.toolTip
    fill(node, volume)
    window.wait_until(lambda: ui.correctReportLabel.text == "ball: 144 voxels, shell: 0 voxels")
    window.choose(ui.roleComboBox, "validation")
    window.click(ui.acceptButton)
    assert not is_edited(node)
    assert not ui.acceptButton.enabled  # it is just being stored
    stored(window)
    case = workspace.case("balls", "scan")
    assert (case.role.value, case.label_voxels, case.revisions) == ("validation", {"ball": 144, "shell": 0}, ())
    assert case.seconds_spent is not None
    assert case.seconds_spent > 0
    assert ui.acceptButton.text == "Store correction of scan"
    assert not ui.roleComboBox.enabled
    assert "role never changes" in ui.roleComboBox.toolTip


def segments(node: Any) -> list[Any]:
    from MedSeqFTLib.scene.segmentations import segments_of

    return segments_of(node)


def test_a_stored_case_is_opened_corrected_and_keeps_its_first_segmentation(
    window: Window,  # noqa: F811
    workspace: Workspace,
) -> None:
    session, ui = open_workspace(window, workspace), window.ui
    volume = add_scan()
    add_proposal(workspace, volume, ball_scan(7)[1], "scan")
    node = session.logic.load_proposal("balls", "scan", volume)
    choose(window, volume, node)
    edit(node, volume)
    window.click(ui.acceptButton)
    stored(window)
    first = workspace.case("balls", "scan")
    slicer.mrmlScene.Clear()
    window.live_on()
    assert session.parameters.volume is None

    volume, node = session.logic.open_case("balls", "scan")
    choose(window, volume, node)
    assert ui.acceptButton.text == "Store correction of scan"
    edit(node, volume, 12)
    window.click(ui.acceptButton)
    stored(window)
    case = workspace.case("balls", "scan")
    assert [earlier.segmentation_sha256 for earlier in case.revisions] == [first.segmentation_sha256]
    assert (case.proposed_by, case.role) == ("M1", first.role)
    assert case.proposal_dice < first.proposal_dice < 1
    np.testing.assert_array_equal(voxels(workspace, case, 0)[10:], sitk.GetArrayFromImage(ball_scan(7)[1])[10:])
    assert not (voxels(workspace, case)[:12] == 4).any()
    workspace.verify_case(case)


def test_an_edit_is_kept_when_another_segmentation_is_chosen(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session, ui = open_workspace(window, workspace), window.ui
    one, two = add_scan(7, "one"), add_scan(8, "two")
    first, second = add_drawn(one, 7), add_drawn(two, 8)
    choose(window, one, first)
    assert not is_edited(first)
    edit(first, one)
    assert is_edited(first)
    window.choose(ui.segmentVolumeSelector, "two")
    assert session.parameters.segmentation is second  # what belongs to the volume
    assert ui.segmentEditorWidget.segmentationNode() is second
    assert "Edited and not accepted yet: one drawn." in ui.correctStateLabel.text
    assert is_edited(first)
    window.choose(ui.segmentationSelector, "one drawn")
    assert session.parameters.volume is one
    window.click(ui.acceptButton)
    stored(window, "one")
    assert "not accepted" not in ui.correctStateLabel.text


def test_what_is_wrong_is_told_and_cannot_be_accepted(window: Window, workspace: Workspace) -> None:  # noqa: F811
    _, ui = open_workspace(window, workspace), window.ui
    one, two = add_scan(7, "one"), add_scan(8, "two")
    node = add_drawn(one)
    choose(window, one, node)
    assert ui.acceptButton.enabled
    node.GetSegmentation().GetNthSegment(0).SetName("thing")
    window.wait_until(lambda: "No label of the task: thing. Rename" in ui.correctStateLabel.text)
    assert not ui.acceptButton.enabled
    node.GetSegmentation().GetNthSegment(0).SetName("ball")
    window.wait_until(lambda: ui.acceptButton.enabled)
    window.widget.session.parameters.volume = two  # a segmentation of another volume
    window.wait_until(lambda: not ui.acceptButton.enabled)


def test_overlaps_are_told(window: Window, workspace: Workspace) -> None:  # noqa: F811
    _, ui = open_workspace(window, workspace), window.ui
    volume = add_scan()
    node = add_drawn(volume)
    choose(window, volume, node)
    node.GetSegmentation().SeparateSegmentLabelmap(node.GetSegmentation().GetNthSegmentID(0))
    array = sitk.GetArrayFromImage(ball_scan(7)[1])
    identifier = node.GetSegmentation().GetNthSegmentID(0)
    overlapping = ((array == 1) | (array == 4)).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(overlapping, node, identifier, volume)
    count = int((array == 4).sum())
    window.wait_until(lambda: f"ball and shell overlap in {count} voxels" in ui.correctReportLabel.text)
    assert ui.acceptButton.enabled


def test_a_case_whose_worker_died_is_listed_and_resumed(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session, ui = open_workspace(window, workspace), window.ui
    volume = add_scan()
    node = add_drawn(volume)
    choose(window, volume, node)
    assert not ui.notStoredListWidget.visible
    window.click(ui.acceptButton)
    (job,) = session.logic.storing()
    kill(job)
    window.wait_until(lambda: ui.notStoredListWidget.visible)
    assert "not stored" in ui.storingLabel.text
    assert "Resume" in ui.storingLabel.text
    assert ui.notStoredListWidget.item(0).text() == "scan (balls): not stored yet"

    window.reopen()  # as after a restart
    session, ui = open_workspace(window, workspace), window.ui
    assert ui.notStoredListWidget.visible
    window.click(ui.resumeStoringButton)
    stored(window)
    assert not ui.notStoredListWidget.visible
    assert workspace.case("balls", "scan").id == "scan"


def kill(job: Any) -> None:
    deadline = time.monotonic() + 20
    while (process := job.folder.process()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    psutil.Process(process.pid).kill()
    while job.folder.worker_lives():
        time.sleep(0.01)


def test_a_closed_scene_loses_no_accepted_case(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session, ui = open_workspace(window, workspace), window.ui
    volume = add_scan()
    choose(window, volume, add_drawn(volume))
    window.click(ui.acceptButton)
    slicer.mrmlScene.Clear()
    window.wait_until(lambda: workspace.cases("balls"), 40)
    stored(window)
    assert ui.segmentEditorWidget.segmentationNode() is None
    assert session.logic.not_stored() == []


def test_a_case_that_cannot_be_written_is_told_and_the_edit_stays(
    window: Window,  # noqa: F811
    workspace: Workspace,
) -> None:
    _, ui = open_workspace(window, workspace), window.ui
    volume = add_scan()
    node = add_drawn(volume)
    choose(window, volume, node)
    edit(node, volume)
    shutil.rmtree(workspace.folder / "cache")
    (workspace.folder / "cache").write_text("in the way of every temporary folder", encoding="utf-8")
    window.dialogs.expect("Cannot write")
    window.click(ui.acceptButton)
    assert is_edited(node)
    assert ui.acceptButton.enabled
    assert workspace.cases("balls") == []


def test_the_editor_is_shared_and_its_modes_are_put_back(window: Window, workspace: Workspace) -> None:  # noqa: F811
    window.switch_away()
    editor = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    everywhere, inside = 0, slicer.vtkMRMLSegmentationNode.EditAllowedInsideAllSegments
    editor.SetOverwriteMode(editor.OverwriteNone)
    editor.SetMaskMode(inside)
    window.switch_to()
    assert window.ui.segmentEditorWidget.mrmlSegmentEditorNode() is editor
    assert (editor.GetOverwriteMode(), editor.GetMaskMode()) == (editor.OverwriteAllSegments, everywhere)
    window.switch_away()
    assert (editor.GetOverwriteMode(), editor.GetMaskMode()) == (editor.OverwriteNone, inside)
    window.switch_to()


def test_time_counts_while_somebody_looks(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clock that the test sets."""
    from MedSeqFTLib.scene.panels import attention

    clock = [0.0]
    monkeypatch.setattr(attention.time, "monotonic", lambda: clock[0])
    session = open_workspace(window, workspace)
    volume = add_scan()
    node = add_drawn(volume)
    choose_quietly(session, volume, node)
    clock[0] = 30
    edit(node, volume, 2)  # 30 s
    clock[0] = 1000
    edit(node, volume, 4)  # a pause counts as 120 s
    window.switch_away()
    clock[0] = 1050
    edit(node, volume, 6)  # in another module: does not count
    window.switch_to()
    clock[0] = 1060
    window.switch_away()  # 10 s
    from MedSeqFTLib.scene.marks import seconds_spent

    assert seconds_spent(node) == 160


def choose_quietly(session: Any, volume: Any, node: Any) -> None:
    session.parameters.volume = volume
    session.parameters.segmentation = node


def test_a_scan_of_the_other_role_is_refused_by_the_worker_and_can_be_given_up(
    window: Window,  # noqa: F811
    workspace: Workspace,
    tmp_path: Path,
) -> None:
    """Loaded anew, so that only the worker can see that it is a case already."""
    add_balls(workspace, tmp_path, workspace.task("balls"), range(1, 2), Role.VALIDATION)
    session, ui = open_workspace(window, workspace), window.ui
    volume = add_scan(1, "again")
    node = add_drawn(volume, 1)
    choose(window, volume, node)
    edit(node, volume)
    window.click(ui.acceptButton)
    window.wait_until(lambda: ui.notStoredListWidget.visible, 40)
    assert "already the validation case case1" in ui.storingLabel.text
    assert "a role never changes" in ui.notStoredListWidget.item(0).toolTip()
    assert not is_edited(node)
    window.dialogs.expect("Give up storing again?", False)
    window.click(ui.discardButton)
    assert [job.name for job in session.logic.not_stored()] == ["again"]
    window.dialogs.expect("Give up storing again?", True)
    window.click(ui.discardButton)
    assert session.logic.not_stored() == []
    assert is_edited(node)  # nothing of it is stored
    assert not ui.notStoredListWidget.visible


def test_the_role_of_a_stored_case_is_not_that_of_the_next_volume(
    window: Window,  # noqa: F811
    workspace: Workspace,
    tmp_path: Path,
) -> None:
    add_balls(workspace, tmp_path, workspace.task("balls"), range(1, 2), Role.VALIDATION)
    session, ui = open_workspace(window, workspace), window.ui
    choose(window, *session.logic.open_case("balls", "case1"))
    assert ui.roleComboBox.currentText == "validation"
    volume = add_scan()
    choose(window, volume, add_drawn(volume))
    assert ui.roleComboBox.currentText == "train"
    assert ui.roleComboBox.enabled
    window.choose(ui.roleComboBox, "validation")
    assert session.parameters.role == "validation"
