"""Edits that nobody has accepted are on the disk before another case is shown, or the scene is closed."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning_samples import add_balls, ball_scan
from panel_samples import (
    add_drawn,
    add_proposal,
    add_scan,
    edit,
    open_workspace,
)
from PySide6 import QtCore, QtTest
from pythonqt_layer import inside
from slicer_program import Window, scene, window  # noqa: F401  # fixtures
from slicer_samples import slicer, vtk_matrix

from MedSeqFTLib.scene.marks import is_edited, is_on_disk, seconds_spent
from MedSeqFTLib.scene.observers import weak
from MedSeqFTLib.workspace.drafts import drafts
from MedSeqFTLib.workspace.schema import Case, Role
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(untrained_copy: Workspace) -> Workspace:
    return untrained_copy


def masks(node: Any, volume: Any) -> list[np.ndarray]:
    segmentation = node.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
    return [slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume) > 0 for identifier in ids]


def double_click(window: Window, name: str) -> None:  # noqa: F811
    shown = inside(window.ui.worklistTableWidget)
    row = next(row for row in range(shown.rowCount()) if shown.item(row, 0).text() == name)
    place = shown.visualItemRect(shown.item(row, 0)).center()
    QtTest.QTest.mouseClick(shown.viewport(), QtCore.Qt.MouseButton.LeftButton, pos=place)
    QtTest.QTest.mouseDClick(shown.viewport(), QtCore.Qt.MouseButton.LeftButton, pos=place)
    window.wait_until(lambda: "being read" not in window.ui.openButton.toolTip)


def test_an_edit_is_on_the_disk_before_another_case_is_shown(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session = open_workspace(window, workspace)
    one, two = add_scan(7, "one"), add_scan(8, "two")
    first, second = add_drawn(one, 7), add_drawn(two, 8)
    session.parameters.segmentation = first
    edit(first, one)
    assert drafts(workspace, "balls") == []
    session.parameters.segmentation = second
    (older,) = drafts(workspace, "balls")
    assert older.volume == "one"
    assert is_on_disk(first)
    assert not first.GetDisplayNode().GetVisibility()
    assert second.GetDisplayNode().GetVisibility()

    session.parameters.segmentation = first
    edit(first, one, 12)
    assert not is_on_disk(first)
    session.parameters.segmentation = second
    (newer,) = drafts(workspace, "balls")
    assert newer.id != older.id
    session.parameters.segmentation = first
    job = session.logic.accept("balls", one, first, "train")
    assert drafts(workspace, "balls") == []
    assert not is_edited(first)
    job.wait(timeout=60)
    assert job.result(Case).id == "one"


def test_edits_outlive_a_closed_scene(window: Window, workspace: Workspace) -> None:  # noqa: F811
    """Even one with a segment that means no label, an overlap, and a transform: everything comes back."""
    session = open_workspace(window, workspace)
    volume = add_scan()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[0, 3] = 12
    transform.SetMatrixTransformToParent(vtk_matrix(matrix))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    session.parameters.volume = volume
    window.click(window.ui.newSegmentationButton)
    node = session.parameters.segmentation
    drawn = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    drawn[3:9, 4:8, 5:9] = 1
    for identifier in ("Segment_1", "Segment_4", "a note"):
        if identifier == "a note":
            node.GetSegmentation().AddEmptySegment(identifier, identifier)
        slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, identifier, volume)
        drawn[4:] = 0
    before = masks(node, volume)
    window.switch_away()  # the user closes it from another module
    slicer.mrmlScene.Clear()
    window.switch_to()

    again = add_scan()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(vtk_matrix(matrix))
    again.SetAndObserveTransformNodeID(transform.GetID())
    window.click(window.ui.worklistCollapsibleButton, y=8)
    double_click(window, "scan")
    node = session.parameters.segmentation
    assert session.parameters.volume is again
    assert is_edited(node)
    assert node.GetStorageNode() is None
    after = masks(node, again)
    assert len(before) == len(after) == 3
    for ours, theirs in zip(before, after, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    count = slicer.mrmlScene.GetNumberOfNodes()
    double_click(window, "scan")
    assert slicer.mrmlScene.GetNumberOfNodes() == count  # it is in the scene now


def test_an_edit_of_a_stored_case_comes_back_with_the_case(
    window: Window,  # noqa: F811
    workspace: Workspace,
    tmp_path: Path,
) -> None:
    add_balls(workspace, tmp_path, workspace.task("balls"), range(1, 2), Role.TRAIN)
    session = open_workspace(window, workspace)
    window.click(window.ui.worklistCollapsibleButton, y=8)
    double_click(window, "case1")
    node, volume = session.parameters.segmentation, session.parameters.volume
    edit(node, volume)
    before, spent = masks(node, volume), seconds_spent(node)
    assert spent > 0
    slicer.mrmlScene.Clear()
    session.changed()
    double_click(window, "case1")
    node, volume = session.parameters.segmentation, session.parameters.volume
    for ours, theirs in zip(before, masks(node, volume), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert seconds_spent(node) >= spent - 0.1
    assert window.ui.acceptButton.text == "Store correction of case1"


def test_what_cannot_be_kept_is_told_and_stays_in_the_scene(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session = open_workspace(window, workspace)
    one, two = add_scan(7, "one"), add_scan(8, "two")
    first, second = add_drawn(one, 7), add_drawn(two, 8)
    session.parameters.segmentation = first
    edit(first, one)
    (workspace.folder / "drafts").write_text("in the way of the folder", encoding="utf-8")
    window.dialogs.expect("Cannot write")
    session.parameters.segmentation = second
    assert is_edited(first)
    assert not is_on_disk(first)
    assert "one drawn" in window.ui.correctStateLabel.text
    (workspace.folder / "drafts").unlink()


def test_the_same_scan_accepted_again_is_a_correction(window: Window, workspace: Workspace, tmp_path: Path) -> None:  # noqa: F811
    """Loaded anew from its file, so that nothing tells that it is a case; the worker finds out."""
    add_balls(workspace, tmp_path, workspace.task("balls"), range(1, 2), Role.TRAIN)
    first = workspace.case("balls", "case1")
    session = open_workspace(window, workspace)
    volume = add_scan(1, "loaded again")
    node = add_drawn(volume, 1)
    session.parameters.segmentation = node
    edit(node, volume)
    assert window.ui.acceptButton.text == "Accept case"
    window.click(window.ui.acceptButton)
    window.wait_until(lambda: window.ui.storingLabel.text.startswith("Case case1 is stored. Its earlier"), 40)
    case = workspace.case("balls", "case1")
    assert [revision.segmentation_sha256 for revision in case.revisions] == [first.segmentation_sha256]
    assert [found.id for found in workspace.cases("balls")] == ["case1"]
    assert window.ui.acceptButton.text == "Store correction of case1"


def test_a_proposal_that_nobody_edited_leaves_no_draft(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session = open_workspace(window, workspace)
    volume = add_scan()
    add_proposal(workspace, volume, ball_scan(7)[1], "scan")
    session.parameters.segmentation = session.logic.load_proposal("balls", "scan", volume)
    slicer.mrmlScene.Clear()
    assert drafts(workspace, "balls") == []


def test_an_edit_outlives_the_window(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session = open_workspace(window, workspace)
    volume = add_scan()
    node = add_drawn(volume)
    session.parameters.segmentation = node
    edit(node, volume)
    window.reopen()
    assert [draft.volume for draft in drafts(workspace, "balls")] == ["scan"]


def test_a_closed_scene_leaves_nothing_in_memory(window: Window, workspace: Workspace) -> None:  # noqa: F811
    """Neither the volume nor what was drawn on it, wherever a panel showed them."""
    session = open_workspace(window, workspace)
    window.click(window.ui.worklistCollapsibleButton, y=8)
    volume = add_scan()
    node = add_drawn(volume)
    session.parameters.segmentation = node
    edit(node, volume)
    window.wait_until(lambda: "voxels" in window.ui.correctReportLabel.text)
    kept = weak(volume), weak(node)
    del volume, node
    window.switch_away()
    slicer.mrmlScene.Clear()
    gc.collect()
    assert [reference.Get() for reference in kept] == [None, None]
