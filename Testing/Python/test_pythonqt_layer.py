"""The layer over PySide6 answers as PythonQt does, or is stricter."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest
import workspace_samples as samples
from PySide6 import QtWidgets
from slicer_program import Program, Window, program, scene, window  # noqa: F401
from slicer_samples import slicer


@pytest.fixture
def qt(program: Program) -> Any:  # noqa: F811
    import qt

    return qt


@pytest.mark.parametrize(
    ("kind", "method", "misspelt"),
    [
        ("QLabel", "text", "txt"),
        ("QLineEdit", "text", "setTxt"),
        ("QCheckBox", "checked", "isCheckd"),
        ("QComboBox", "currentIndex", "currentItem"),
        ("QSpinBox", "value", "val"),
        ("QProgressBar", "value", "setVal"),
        ("QTableWidget", "rowCount", "rows"),
        ("QTreeWidget", "topLevelItemCount", "count"),
        ("QPlainTextEdit", "plainText", "text"),
        ("QToolButton", "enabled", "enable"),
        ("QTimer", "interval", "singleShotTimer"),
        ("QDialog", "windowTitle", "title_"),
    ],
)
def test_values_are_no_methods_and_unknown_names_raise(qt: Any, kind: str, method: str, misspelt: str) -> None:
    made = getattr(qt, kind)()
    with pytest.raises(TypeError, match="not callable"):
        getattr(made, method)()
    with pytest.raises(AttributeError, match=misspelt):
        getattr(made, misspelt)
    with pytest.raises(AttributeError, match=misspelt):
        setattr(made, misspelt, 1)


def test_a_class_that_the_table_lacks_and_keywords_are_refused(qt: Any) -> None:
    with pytest.raises(AttributeError):
        _ = qt.QTextCodec
    with pytest.raises(TypeError):
        qt.QLabel(text="a keyword")
    with pytest.raises(AttributeError, match="Sunken2"):
        _ = qt.QFrame.Sunken2


def test_signals_are_connected_and_disconnected_in_both_forms(qt: Any) -> None:
    button, seen = qt.QPushButton("Go"), []
    button.clicked.connect(lambda *arguments: seen.append(arguments))
    button.clicked.connect(functools.partial(seen.append))
    without = lambda: seen.append("none")  # noqa: E731
    button.connect("clicked()", without)
    button.click()
    assert seen == [(False,), False, "none"]
    button.disconnect("clicked()", without)
    with pytest.raises(RuntimeError, match="not connected"):
        button.clicked.disconnect(without)
    with pytest.raises(AttributeError, match="no signal"):
        button.connect("clcked()", without)
    seen.clear()
    button.click()
    assert "none" not in seen


def test_a_bound_method_is_disconnected(qt: Any) -> None:
    class Panel:
        calls = 0

        def changed(self) -> None:
            self.calls += 1

    panel, field = Panel(), qt.QLineEdit()
    field.textChanged.connect(panel.changed)
    field.text = "a"
    field.textChanged.disconnect(panel.changed)
    field.text = "b"
    assert panel.calls == 1


def test_enumerators_are_integers_and_flags_can_be_joined(qt: Any) -> None:
    item = qt.QTableWidgetItem("voxel")
    item.setFlags(item.flags() & ~qt.Qt.ItemIsEditable)
    assert isinstance(item.flags(), int) and not item.flags() & qt.Qt.ItemIsEditable
    assert item.flags() & qt.Qt.ItemIsSelectable
    assert qt.QMessageBox.Ok | qt.QMessageBox.Cancel == 0x400400
    assert type(int(qt.Qt.UserRole)) is int


def test_a_table_and_a_tree_are_filled_and_read(qt: Any) -> None:
    table = qt.QTableWidget()
    table.setColumnCount(2)
    table.setHorizontalHeaderLabels(["Case", "Dice"])
    table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
    table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
    table.setRowCount(1)
    item = qt.QTableWidgetItem("CT1")
    item.setData(qt.Qt.UserRole, "identifier")
    item.setForeground(qt.QBrush(qt.QColor(255, 0, 0)))
    table.setItem(0, 0, item)
    assert (table.rowCount, table.columnCount, table.item(0, 0).text()) == (1, 2, "CT1")
    assert table.item(0, 0).data(qt.Qt.UserRole) == "identifier"
    assert table.item(0, 1) is None
    tree = qt.QTreeWidget()
    row = qt.QTreeWidgetItem(tree)
    row.setText(0, "v1")
    tree.setCurrentItem(row)
    assert tree.currentItem() == row
    assert isinstance(tree.selectedItems(), tuple)


def test_timers_run_in_the_event_loop(window: Window) -> None:  # noqa: F811
    import qt

    seen: list[str] = []
    timer = qt.QTimer()
    timer.setInterval(1)
    timer.timeout.connect(lambda: seen.append("tick"))
    timer.start()
    qt.QTimer.singleShot(1, lambda: seen.append("once"))
    window.wait_until(lambda: seen.count("tick") > 2 and "once" in seen, 5)
    timer.stop()
    assert not timer.isActive() and timer.active is False
    with pytest.raises(AttributeError):
        timer.singleShot = True
    timer.setSingleShot(True)


def test_a_process_is_run_and_its_bytes_are_read(window: Window) -> None:  # noqa: F811
    import qt

    ended: list[Any] = []
    process = qt.QProcess()
    process.finished.connect(lambda *arguments: ended.append(arguments))
    process.start(sys.executable, ["-c", "print('voxels')"])
    window.wait_until(lambda: ended)
    found = process.readAllStandardOutput()
    with pytest.raises(TypeError):
        bytes(found)
    assert found.data().decode().strip() == "voxels"
    assert ended == [(0, 0)] and process.exitStatus() == qt.QProcess.NormalExit
    assert "PATH" in slicer.util.startupEnvironment()


def test_settings_stay_in_a_temporary_file(qt: Any) -> None:
    settings = qt.QSettings()
    settings.setValue("MedSeqFT/folder", "/a")
    settings.sync()
    assert slicer.app.userSettings().value("MedSeqFT/folder") == "/a"
    assert slicer.util.settingsValue("MedSeqFT/other", "none") == "none"
    assert (Path(slicer.app.temporaryPath) / "Slicer.ini").is_file()
    assert not slicer.app.settings().contains("MedSeqFT/folder")


def test_pages_are_recorded_and_not_opened(qt: Any, program: Program) -> None:  # noqa: F811
    assert qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile("/a/report.html"))
    assert program.dialogs.opened == ["file:///a/report.html"]


def test_dialogues_get_the_answers_of_the_test(program: Program, tmp_path: Path) -> None:  # noqa: F811
    import qt

    script = {"Delete it?": False, "Keep it?": True, "failed": True, "Folder": tmp_path, "Name": "liver"}
    for part, answer in script.items():
        program.dialogs.expect(part, answer)
    assert not slicer.util.confirmOkCancelDisplay("Delete it?")
    assert slicer.util.confirmYesNoDisplay("Keep it?")
    slicer.util.errorDisplay("It failed.", windowTitle="MedSeqFT")
    assert qt.QFileDialog.getExistingDirectory(None, "Folder") == str(tmp_path)
    assert qt.QInputDialog.getText(None, "Task", "Name") == ("liver", True)
    slicer.util.delayDisplay("Done.")
    assert program.dialogs.delayed == ["Done."]
    with pytest.raises(AssertionError, match="does not expect"):
        slicer.util.infoDisplay("Surprise")
    assert program.dialogs.unexpected == ["Surprise"]
    program.dialogs.unexpected.clear()


def test_a_dialogue_of_the_module_is_shown_and_answered(program: Program) -> None:  # noqa: F811
    import qt

    dialog = qt.QDialog()
    dialog.setWindowTitle("New task")
    field = qt.QLineEdit(dialog)
    program.dialogs.expect("New task", lambda shown: (setattr(field, "text", "liver"), shown.visible)[1])
    assert dialog.exec_() == qt.QDialog.Accepted
    assert field.text == "liver"


def test_an_error_is_displayed_and_raised_again(program: Program) -> None:  # noqa: F811
    program.dialogs.expect("Segmenting failed.\n\nno voxels")
    with pytest.raises(ValueError), slicer.util.tryWithErrorDisplay("Segmenting failed.", waitCursor=True):
        raise ValueError("no voxels")
    assert QtWidgets.QApplication.overrideCursor() is None


UI = """<ui version="4.0"><widget class="qMRMLWidget" name="Root"><layout class="QVBoxLayout">
<item><widget class="qMRMLNodeComboBox" name="selector"><property name="nodeTypes"><stringlist>
<string>vtkMRMLScalarVolumeNode</string></stringlist></property>
<property name="noneEnabled"><bool>true</bool></property></widget></item>
<item><widget class="QCheckBox" name="box"/></item><item><widget class="QLabel" name="label"/></item></layout></widget>
<connections><connection><sender>Root</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection>
<connection><sender>box</sender><signal>toggled(bool)</signal><receiver>label</receiver>
<slot>setVisible(bool)</slot></connection></connections></ui>"""


def load(text: str, folder: Path) -> Any:
    (folder / "Test.ui").write_text(text, encoding="utf-8")
    return slicer.util.loadUI(str(folder / "Test.ui"))


def test_the_ui_hands_the_scene_to_the_boxes_of_nodes(program: Program, tmp_path: Path) -> None:  # noqa: F811
    root = load(UI, tmp_path)
    ui = slicer.util.childWidgetVariables(root)
    assert ui.selector.mrmlScene() is None
    root.setMRMLScene(slicer.mrmlScene)
    assert ui.selector.mrmlScene() is slicer.mrmlScene
    assert ui.selector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    ui.box.checked = True
    assert ui.label.isVisibleTo(root)
    ui.box.checked = False
    assert not ui.label.isVisibleTo(root)


@pytest.mark.parametrize("right", ["setMRMLScene(vtkMRMLScene*)", "mrmlSceneChanged(vtkMRMLScene*)", "selector</rec"])
def test_a_wrong_connection_of_the_ui_raises(program: Program, tmp_path: Path, right: str) -> None:  # noqa: F811
    with pytest.raises(AttributeError):
        load(UI.replace(right, "x" + right), tmp_path)


def test_python_outlives_many_calls_of_pyside6() -> None:
    """Each call that returns None takes one reference of None away, of which a fresh Python has some thousands."""
    code = """
import pythonqt_layer
from PySide6 import QtCore
thing = QtCore.QObject()
for _ in range(100_000):
    thing.setObjectName("a")
"""
    child = samples.python(code)
    _, complaints = child.communicate(timeout=60)
    assert (child.returncode, complaints) == (0, "")
