"""Segmenting from the window: real clicks, a real scene, real workers, and a model that was really trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import vtk
from panel_samples import add_scan, copied, edit, end_workers, open_workspace, untrained_workspace
from slicer_program import Window, scene, window  # noqa: F401  # fixtures
from slicer_samples import slicer, vtk_matrix

from MedSeqFTLib.imaging.volumes import pixel_sha256
from MedSeqFTLib.scene.marks import PIXELS
from MedSeqFTLib.scene.volumes import image_of
from MedSeqFTLib.workspace.segmentations import segmentations
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(adapted: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    found = copied(adapted, tmp_path)
    yield found
    end_workers(found)


def ended(window: Window) -> None:  # noqa: F811
    """The job, and the reading of its result."""
    button = window.ui.segmentButton
    window.wait_until(lambda: button.text == "Segment" and "being read" not in button.toolTip, 60)


def test_a_volume_is_segmented(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session, ui = open_workspace(window, workspace), window.ui
    assert ui.segmentStateLabel.text.startswith("No volume is selected")
    assert (ui.segmentButton.enabled, ui.segmentButton.toolTip) == (False, ui.segmentStateLabel.text)
    volume = add_scan()
    window.choose(ui.segmentVolumeSelector, "scan")
    assert session.parameters.volume is volume
    assert ui.segmentStateLabel.text == "Ready: M1 is the current model of balls."
    window.click(ui.segmentButton)
    assert (ui.segmentButton.text, ui.segmentProgressBar.visible) == ("Cancel", True)
    ended(window)
    node = session.parameters.segmentation
    assert node.GetName() == "scan by M1"
    assert [node, node, volume] == [
        ui.segmentationSelector.currentNode(),
        ui.segmentEditorWidget.segmentationNode(),
        ui.segmentEditorWidget.sourceVolumeNode(),
    ]
    (record,) = segmentations(workspace, "balls")
    assert 0 < record.confidence <= 1
    assert ui.segmentStateLabel.text == (
        f"scan by M1 is in the scene, with a confidence of {round(100 * record.confidence)}\u00a0%: correct it below."
    )
    assert volume.GetAttribute(PIXELS) == pixel_sha256(image_of(volume)) == record.pixel_sha256
    assert len(record.descriptor) == 8
    assert "voxels" in ui.correctReportLabel.text
    assert not ui.segmentProgressBar.visible


def test_an_edit_is_not_pushed_aside_by_a_new_proposal(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session, ui = open_workspace(window, workspace), window.ui
    volume = add_scan()
    session.parameters.volume = volume
    window.click(ui.newSegmentationButton)
    mine = session.parameters.segmentation
    window.click(ui.singleModelCheckBox)
    assert session.parameters.singleModel
    window.click(ui.segmentButton)
    edit(mine, volume)
    ended(window)
    assert session.parameters.segmentation is mine
    assert "choose it below when you are ready" in ui.segmentStateLabel.text
    assert [record.reading for record in segmentations(workspace, "balls")] == ["single-model"]


def test_a_dead_worker_shows_its_last_lines_and_resume(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session, ui = open_workspace(window, workspace), window.ui
    session.parameters.volume = add_scan()
    window.click(ui.segmentButton)
    (job,) = session.logic.segmenting()
    window.wait_until(lambda: job.poll() is not None and job.progress.starts)
    psutil.Process(job.folder.process().pid).kill()
    window.wait_until(lambda: ui.segmentResumeButton.visible, 60)
    assert "died without a word. Its last lines:" in ui.segmentProgressLabel.text
    assert "Resume" in ui.segmentProgressLabel.text


def test_the_scene_may_be_closed_meanwhile(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session, ui = open_workspace(window, workspace), window.ui
    session.parameters.volume = add_scan()
    window.click(ui.segmentButton)
    slicer.mrmlScene.Clear()
    ended(window)
    assert "no longer in the scene" in ui.segmentStateLabel.text
    assert "kept in the workspace" in ui.segmentStateLabel.text
    assert [record.name for record in segmentations(workspace, "balls")] == ["scan"]
    session.parameters.volume = add_scan()
    row = session.logic.worklist("balls")[-1]
    assert (row.name, row.status) == ("scan", "proposed")  # found by name and grid
    assert session.logic.open_row("balls", row)[1].GetName() == "scan by M1"


def test_after_a_restart_it_is_found_again_cancelled_and_resumed(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session = open_workspace(window, workspace)
    session.parameters.volume = add_scan()
    window.click(window.ui.segmentButton)
    window.switch_away()
    window.reopen()
    session, ui = open_workspace(window, workspace), window.ui
    assert ui.segmentButton.text == "Cancel"
    assert "begun before" in ui.segmentStateLabel.text
    window.click(ui.segmentButton)
    window.wait_until(lambda: ui.segmentResumeButton.visible, 60)
    assert ui.segmentProgressLabel.text.startswith("Cancelled. Resume")
    window.click(ui.segmentResumeButton)
    assert not ui.segmentResumeButton.visible
    ended(window)
    assert session.parameters.segmentation.GetName() == "scan by M1"


def bent(volume: Any) -> None:
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bent")
    grid = vtk.vtkThinPlateSplineTransform()
    points = [vtk.vtkPoints() for _ in range(2)]
    for index, (x, y, z) in enumerate(((0, 0, 0), (50, 0, 0), (0, 50, 0), (0, 0, 50))):
        points[0].InsertNextPoint(x, y, z)
        points[1].InsertNextPoint(x + 5 * (index == 1), y, z + 3 * (index == 2))
    grid.SetSourceLandmarks(points[0])
    grid.SetTargetLandmarks(points[1])
    transform.SetAndObserveTransformToParent(grid)
    volume.SetAndObserveTransformNodeID(transform.GetID())


def colored(volume: Any) -> None:
    image = vtk.vtkImageData()
    image.SetDimensions(4, 4, 4)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    volume.SetAndObserveImageData(image)


def sheared(volume: Any) -> None:
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "sheared")
    matrix = np.eye(4)
    matrix[0, 1] = 0.3
    transform.SetMatrixTransformToParent(vtk_matrix(matrix))
    volume.SetAndObserveTransformNodeID(transform.GetID())


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (bent, "non-linear transform 'bent'"),
        (colored, "3 values per voxel"),
        (sheared, "'scan'"),
        (lambda volume: volume.SetAndObserveImageData(None), "is empty"),
    ],
)
def test_volumes_that_cannot_be_segmented_are_told_before(
    window: Window,  # noqa: F811
    workspace: Workspace,
    spoil: Any,
    told: str,
) -> None:
    session, ui = open_workspace(window, workspace), window.ui
    volume = add_scan()
    spoil(volume)
    session.parameters.volume = volume
    assert told in ui.segmentStateLabel.text
    assert (ui.segmentButton.enabled, ui.segmentButton.toolTip) == (False, ui.segmentStateLabel.text)


def test_without_a_model_the_way_to_one_is_told(window: Window, tmp_path: Path) -> None:  # noqa: F811
    session = open_workspace(window, untrained_workspace(tmp_path))
    session.parameters.volume = add_scan()
    assert window.ui.segmentStateLabel.text == ("Task balls has no model yet: draw and accept cases below, then adapt.")
    assert not window.ui.segmentButton.enabled


def test_a_failed_segmentation_tells_what_happened(window: Window, workspace: Workspace) -> None:  # noqa: F811
    """The model's file is damaged; the worker finds out."""
    session, ui = open_workspace(window, workspace), window.ui
    session.parameters.volume = add_scan()
    weights = workspace.version_folder("M1") / "task-backbone.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    window.click(ui.segmentButton)
    window.wait_until(lambda: ui.segmentResumeButton.visible, 60)
    assert "is damaged" in ui.segmentProgressLabel.text
    assert segmentations(workspace, "balls") == []
