"""The panel Export: real clicks, a real worker, files read by SimpleITK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from learning_samples import ball_scan, ball_task, ball_workspace
from panel_samples import copied, end_workers, runner_of, show
from PySide6 import QtCore, QtTest
from pythonqt_layer import inside
from slicer_program import Window, scene, window  # noqa: F401
from slicer_samples import slicer

from MedSeqFTLib.jobs.job import REPORT_FILE
from MedSeqFTLib.workspace.workspace import Workspace

ENDINGS = (".seg.nrrd", ".labels.nrrd", ".json")


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Not to be changed."""
    return ball_workspace(tmp_path_factory.mktemp("accepted"), train=2, validation=1)


@pytest.fixture
def workspace(accepted: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    found = copied(accepted, tmp_path)
    yield found
    end_workers(found)


def select(ui: Any, *names: str) -> None:
    """Real clicks, with Ctrl from the second one on."""
    widget = inside(ui.exportListWidget)
    modifier = QtCore.Qt.KeyboardModifier.NoModifier
    for name in names:
        item = widget.findItems(name, QtCore.Qt.MatchFlag.MatchExactly)[0]
        point = widget.visualItemRect(item).center()
        QtTest.QTest.mouseClick(widget.viewport(), QtCore.Qt.MouseButton.LeftButton, modifier, point)
        modifier = QtCore.Qt.KeyboardModifier.ControlModifier


def tick(ui: Any) -> None:
    """A click on the box: the space behind its text does not react."""
    box = inside(ui.exportAllCheckBox)
    point = QtCore.QPoint(8, box.height() // 2)
    QtTest.QTest.mouseClick(box, QtCore.Qt.MouseButton.LeftButton, pos=point)
    assert ui.exportAllCheckBox.checked


def opened(window: Window, workspace: Workspace, folder: Path) -> Any:  # noqa: F811
    ui = show(window, workspace, panel="export")
    ui.exportDirectoryButton.directory = str(folder)
    return ui


def exported(window: Window) -> str:  # noqa: F811
    window.wait_until(lambda: window.ui.exportButton.text == "Export" and window.ui.exportButton.enabled, 60)
    return str(window.ui.exportProgressLabel.text)


def test_the_chosen_ones_are_exported(window: Window, workspace: Workspace, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "results ü"
    folder.mkdir()
    ui = opened(window, workspace, folder)
    assert not ui.exportButton.enabled and "Select" in ui.exportButton.toolTip
    select(ui, "case0", "case100")
    window.click(ui.exportButton)
    assert exported(window) == f"2 exported to {folder}."
    assert {path.name for path in folder.iterdir()} == {
        f"{name}{end}" for name in ("case0", "case100") for end in ENDINGS
    }
    image, label_map = ball_scan(0)
    found = sitk.ReadImage(str(folder / "case0.labels.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(label_map))
    np.testing.assert_allclose(found.GetDirection(), image.GetDirection(), atol=1e-9)
    sidecar = json.loads((folder / "case0.json").read_text(encoding="utf-8"))
    assert [label["value"] for label in sidecar["labels"]] == [1, 4]
    window.click(ui.exportOpenFolderButton)
    assert QtCore.QUrl(window.dialogs.opened[-1]).toLocalFile() == str(folder)


def test_existing_files_are_overwritten_only_when_asked(
    window: Window,  # noqa: F811
    workspace: Workspace,
    tmp_path: Path,
) -> None:
    ui = opened(window, workspace, tmp_path / "out")
    tick(ui)
    assert window.widget.session.parameters.exportAll
    assert not ui.exportListWidget.enabled
    window.click(ui.exportButton)
    assert exported(window).startswith("3 exported")
    file = tmp_path / "out" / "case0.json"
    file.write_text("mine", encoding="utf-8")
    window.dialogs.expect("9 files exist already", False)
    window.click(ui.exportButton)
    assert ui.exportButton.text == "Export"
    assert file.read_text(encoding="utf-8") == "mine"
    window.dialogs.expect("case0.seg.nrrd, case0.labels.nrrd, case0.json, ...", True)
    window.click(ui.exportButton)
    exported(window)
    assert json.loads(file.read_text(encoding="utf-8"))["name"] == "case0"


def test_the_folder_is_remembered(window: Window, workspace: Workspace, tmp_path: Path) -> None:  # noqa: F811
    ui = opened(window, workspace, tmp_path)
    assert not window.widget.session.parameters.parameterNode.GetParameter("exportFolder")
    window.reopen()
    assert Path(window.ui.exportDirectoryButton.directory) == tmp_path
    assert slicer.app.userSettings().value("MedSeqFT/exportFolder") == str(tmp_path)
    ui = opened(window, workspace, tmp_path / "nowhere")
    assert not ui.exportOpenFolderButton.enabled and "does not exist" in ui.exportOpenFolderButton.toolTip


def test_an_export_that_fails_says_why_and_can_be_resumed(
    window: Window,  # noqa: F811
    workspace: Workspace,
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("no folder")
    ui = opened(window, workspace, tmp_path / "file")
    select(ui, "case0")
    window.click(ui.exportButton)
    text = exported(window)
    assert str(tmp_path / "file") in text and "Resume" in text
    (tmp_path / "file").unlink()
    window.click(ui.exportResumeButton)
    assert exported(window).startswith("1 exported")


def test_cancel(window: Window, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    runner_of(monkeypatch, "job_runners:slow")
    ui = opened(window, workspace, tmp_path)
    select(ui, "case0")
    window.click(ui.exportButton)
    window.wait_until(lambda: "step" in ui.exportProgressLabel.text)
    assert ui.exportButton.text == "Cancel"
    window.click(ui.exportButton)
    assert exported(window).startswith("Cancelled")


def test_a_damaged_case_is_named(window: Window, workspace: Workspace, tmp_path: Path) -> None:  # noqa: F811
    path = workspace.segmentation_path(workspace.case("balls", "case0"))
    path.write_bytes(path.read_bytes()[:-1])
    ui = opened(window, workspace, tmp_path / "out")
    select(ui, "case0")
    window.click(ui.exportButton)
    assert "damaged" in exported(window)
    assert not (tmp_path / "out" / "case0.json").exists()


def test_nothing_to_export(window: Window, tmp_path: Path) -> None:  # noqa: F811
    empty = Workspace.create(tmp_path / "new")
    empty.add_task(ball_task())
    ui = show(window, empty, panel="export")
    assert "Nothing to export yet" in ui.exportStateLabel.text
    tick(ui)
    assert not ui.exportButton.enabled


def test_the_report_opens_in_the_browser(window: Window, workspace: Workspace) -> None:  # noqa: F811
    ui = show(window, workspace, panel="export")
    window.click(ui.reportButton)
    window.wait_until(lambda: window.dialogs.opened, 60)
    path = workspace.folder / REPORT_FILE
    assert QtCore.QUrl(window.dialogs.opened[-1]).toLocalFile() == str(path)
    assert ui.reportProgressLabel.text == str(path)
    text = path.read_text(encoding="utf-8")
    assert "No model has been adapted yet." in text and "2 for training, 1 held out" in text
