"""Whether corrections are shrinking, in the window."""

from __future__ import annotations

from pathlib import Path

import pytest
from drift_samples import SHRINKING, tell
from panel_samples import open_workspace
from slicer_program import Window, scene, window  # noqa: F401  # fixtures
from slicer_samples import slicer
from workspace_samples import a_task, add_case

from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace.create(tmp_path / "workspace")
    found.add_task(a_task())
    found.add_task(a_task("other"))
    return found


def charts() -> list[object]:
    return list(slicer.util.getNodesByClass("vtkMRMLPlotChartNode"))


def test_it_tells_shows_and_plots(window: Window, workspace: Workspace) -> None:  # noqa: F811
    tell(workspace, SHRINKING)
    add_case(workspace, "drawn", b"drawn")
    session = open_workspace(window, workspace, "brain")
    window.click(window.ui.worklistCollapsibleButton, y=8)
    ui = window.ui
    assert not ui.driftTable.visible
    assert not ui.driftPlotButton.visible
    window.click(ui.driftButton)
    assert not ui.driftButton.enabled
    window.wait_until(lambda: ui.driftTable.visible)
    assert ui.driftButton.enabled
    text = ui.driftLabel.text
    assert text.startswith("Corrections are shrinking: Dice of proposal and accepted segmentation +0.1")
    assert text.endswith("Not counted, as no version's proposal was at hand: drawn.")
    first = [ui.driftTable.item(0, column).text() for column in range(ui.driftTable.columnCount)]
    assert first[:2] == ["M1", "6"]
    assert first[2].startswith("0.79")
    assert charts() == []
    before = slicer.app.layoutManager().layout
    window.click(ui.driftPlotButton)
    assert len(charts()) == 1
    assert slicer.app.layoutManager().layout != before
    window.click(ui.driftPlotButton)
    assert charts() == []
    assert slicer.app.layoutManager().layout == before
    window.click(ui.driftPlotButton)
    session.parameters.task = "other"
    window.wait_until(lambda: not ui.driftTable.visible)
    assert ui.driftLabel.text == ""
    assert charts() == []


def test_with_nothing_corrected_it_says_so(window: Window, workspace: Workspace) -> None:  # noqa: F811
    open_workspace(window, workspace, "brain")
    window.click(window.ui.worklistCollapsibleButton, y=8)
    window.click(window.ui.driftButton)
    window.wait_until(lambda: window.ui.driftLabel.visible)
    assert "cannot be told yet (0 cases" in window.ui.driftLabel.text
    assert not window.ui.driftPlotButton.visible
    assert not window.ui.driftTable.visible
