"""Segmenting from the window: real clicks, a real scene, real workers."""

from __future__ import annotations

from correcting_samples import add_scan, open_workspace, trained, workspace  # noqa: F401  # fixtures
from slicer_program import Window, scene, window  # noqa: F401  # fixtures

from MedSeqFTLib.workspace.workspace import Workspace


def test_a_volume_is_segmented(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session = open_workspace(window, workspace)
    ui = window.ui
    assert ui.segmentStateLabel.text.startswith("No volume is selected")
    assert not ui.segmentButton.enabled
    volume = add_scan()
    window.choose(ui.segmentVolumeSelector, "scan")
    assert session.parameters.volume is volume
    assert ui.segmentStateLabel.text == "Ready: M1 is the current model of balls."
    window.click(ui.segmentButton)
    assert ui.segmentButton.text == "Cancel"
    assert ui.segmentProgressBar.visible
    window.wait_until(lambda: ui.segmentButton.text == "Segment")
    node = session.parameters.segmentation
    assert node.GetName() == "scan by M1"
    assert ui.segmentationSelector.currentNode() is node
    assert ui.segmentEditorWidget.segmentationNode() is node
    assert ui.segmentEditorWidget.sourceVolumeNode() is volume
    assert ui.segmentStateLabel.text.startswith("scan by M1 is in the scene, with a confidence of ")
    assert "voxels" in ui.correctReportLabel.text
