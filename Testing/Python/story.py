"""What a radiologist does in the window, from an empty workspace to the export: the steps of the README's tutorial.

Only what a user can do: clicks, choices, keys. Scans come from Sample Data, edits go through the segmentation node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtTest
from slicer_program import Window, inside, usable
from slicer_samples import slicer

from MedSeqFTLib.scene.sample_data import load_scan, scan_name

TASK = "brain-tissue"
LONG = 600.0  # seconds; an adaptation with the preset quick takes one or two minutes


class Story:
    """The steps, each returning when the window shows that it is done."""

    def __init__(self, window: Window) -> None:
        self.window, self.ui = window, window.ui
        window.frame.resize(520, 2600)

    def unfold(self, panel: Any) -> None:
        """A click on the panel's bar, if it is folded."""
        if panel.collapsed:
            self.window.click(panel, y=8)

    def check(self, box: Any) -> None:
        """A click on the box, which lies at the left edge, if it is not checked."""
        real = usable(box)
        if not real.isChecked():
            QtTest.QTest.mouseClick(real, QtCore.Qt.MouseButton.LeftButton, pos=QtCore.QPoint(8, real.height() // 2))
        self.window.wait_until(real.isChecked)

    def make_workspace(self, folder: Path) -> None:
        """Set-up: New..., and a folder."""
        self.window.dialogs.expect("workspace", folder)
        self.window.click(self.ui.newWorkspaceButton)
        self.window.wait_until(lambda: self.window.widget.session.logic is not None)

    def load_scan(self, number: int) -> Any:
        """Sample Data: a volume with its reference segmentation. Returns the volume."""
        volume, _ = load_scan(number)
        self.window.live_on()
        return volume

    def make_task(self, number: int) -> None:
        """Task: a new one, of the segments of a scan's reference."""
        self.window.click(self.ui.newTaskButton)
        self.window.choose(self.ui.newTaskSegmentationSelector, f"{scan_name(number)} reference")
        self.window.type(self.ui.newTaskNameLineEdit, TASK)
        self.window.choose(self.ui.newTaskModalityComboBox, "MR")
        self.window.click(self.ui.createTaskButton)
        self.window.wait_until(lambda: self.ui.taskComboBox.currentText == TASK)

    def choose(self, number: int, segmentation: str = "") -> None:
        """Segment and Correct: a volume and its segmentation, the reference by default."""
        self.window.choose(self.ui.segmentVolumeSelector, scan_name(number))
        name = segmentation or f"{scan_name(number)} reference"
        self.window.wait_until(lambda: self.ui.segmentationSelector.isEnabled())
        self.window.choose(self.ui.segmentationSelector, name)

    def accept(self, role: str) -> None:
        """Correct: what is shown becomes a case, once it is counted and nothing speaks against it."""
        self.window.choose(self.ui.roleComboBox, role)
        self.window.wait_until(lambda: self.ui.acceptButton.isEnabled())
        self.window.click(self.ui.acceptButton)
        self.window.wait_until(
            lambda: "stored" in self.ui.storingLabel.text and "Being" not in self.ui.storingLabel.text, 60
        )

    def segment(self, number: int) -> Any:
        """Segment: a volume. Returns the new segmentation node, which is chosen for correction."""
        self.window.choose(self.ui.segmentVolumeSelector, scan_name(number))
        self.window.wait_until(lambda: self.ui.segmentButton.isEnabled())
        self.window.click(self.ui.segmentButton)
        self.window.wait_until(lambda: self.ui.segmentButton.text == "Cancel")
        self.window.wait_until(lambda: self.ui.segmentButton.text == "Segment", LONG)
        self.window.wait_until(lambda: "being read" not in self.ui.segmentButton.toolTip)
        node = self.window.widget.session.parameters.segmentation
        assert node.GetName().startswith(f"{scan_name(number)} by M"), node.GetName()
        return node

    def edit(self, node: Any, volume: Any, segment: int = 0) -> Any:
        """As the Segment Editor would: a part of a segment is erased. Returns its voxels [z, y, x] afterwards."""
        identifier = node.GetSegmentation().GetNthSegmentID(segment)
        voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume)
        assert voxels.any()
        voxels[: voxels.shape[0] // 3] = 0
        slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, identifier, volume)
        return voxels

    def start_adapting(self, preset: str = "quick") -> None:
        """Adapt: begin, and see the first progress."""
        self.unfold(self.ui.adaptCollapsibleButton)
        self.window.choose(self.ui.adaptPresetComboBox, preset)
        self.window.wait_until(lambda: self.ui.adaptButton.isEnabled())
        self.window.click(self.ui.adaptButton)
        self.window.wait_until(lambda: self.ui.adaptButton.text == "Cancel")

    def wait_for_adapting(self) -> str:
        """Until the job has ended. Returns what the panel says of the newest version."""
        self.window.wait_until(lambda: self.ui.adaptButton.text == "Adapt", LONG)
        assert not self.ui.adaptResumeButton.isVisible(), self.ui.adaptProgressLabel.text
        return str(self.ui.adaptVerdictLabel.text)

    def choose_version(self, version: str) -> None:
        """Task: a row of the lineage table."""
        table = inside(self.ui.lineageTable)
        table.setCurrentCell(next(row for row in range(table.rowCount()) if table.item(row, 0).text() == version), 0)
        self.window.live_on()

    def promote(self, version: str, reason: str) -> None:
        """Task: a person decides."""
        self.choose_version(version)
        self.window.type(self.ui.reasonLineEdit, reason)
        self.window.wait_until(lambda: self.ui.promoteButton.isEnabled())
        self.window.click(self.ui.promoteButton)
        self.window.wait_until(lambda: self.window.widget.session.logic.current(TASK).id == version, 60)

    def export_all(self, folder: Path) -> None:
        """Export: everything of the task."""
        self.unfold(self.ui.exportCollapsibleButton)
        self.check(self.ui.exportAllCheckBox)
        self.ui.exportDirectoryButton.directory = str(folder)
        self.window.wait_until(lambda: self.ui.exportButton.isEnabled())
        self.window.click(self.ui.exportButton)
        self.window.wait_until(lambda: "exported" in self.ui.exportProgressLabel.text, 120)
