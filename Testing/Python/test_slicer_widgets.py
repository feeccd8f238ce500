"""The widgets of MRML and CTK written for the tests, over the real scene; installers and layout."""

from __future__ import annotations

import gc
import importlib
import weakref
from pathlib import Path
from typing import Any

import pytest
from PySide6 import QtWidgets
from slicer_program import Program, Window, program, scene, window  # noqa: F401
from slicer_samples import slicer


def add(kind: str, name: str) -> Any:
    return slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}Node", name)


@pytest.fixture
def box(program: Program) -> Any:  # noqa: F811
    found = slicer.qMRMLNodeComboBox()
    found.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    found.setMRMLScene(slicer.mrmlScene)
    return found


def shown(box: Any) -> list[str]:
    inner = box._qt.box
    return [inner.itemText(index) for index in range(inner.count()) if inner.itemText(index)]


def test_a_box_follows_the_nodes_of_the_scene(box: Any) -> None:
    seen: list[Any] = []
    box.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    assert box.currentNode() is None and box.currentNodeID == ""
    first = add("ScalarVolume", "CT1")
    add("Segmentation", "not a volume")
    second = add("LabelMapVolume", "labels")
    add("ScalarVolume", "hidden").SetHideFromEditors(True)
    assert box.currentNode() is first and box.nodeCount() == 2
    first.SetName("renamed")
    assert shown(box) == ["renamed", "labels", "Create new ScalarVolume", "Delete current ScalarVolume"]
    box.showChildNodeTypes = False
    assert box.nodeCount() == 1
    box.showChildNodeTypes, box.noneEnabled = True, True
    box.currentNodeID = second.GetID()
    slicer.mrmlScene.RemoveNode(second)
    assert box.currentNode() is None
    assert seen == [first, second, None]
    slicer.mrmlScene.Clear()
    assert box.nodeCount() == 0


def test_a_user_chooses_adds_and_deletes_nodes(window: Window) -> None:  # noqa: F811
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes, box.noneEnabled, box.noneDisplay = ("vtkMRMLScalarVolumeNode",), True, "Choose a volume"
    box.setMRMLScene(slicer.mrmlScene)
    box.show()
    volume = add("ScalarVolume", "CT1")
    window.choose(box, "CT1")
    assert box.currentNode() is volume
    window.choose(box, "Choose a volume")
    assert box.currentNode() is None
    window.choose(box, "Create new ScalarVolume")
    assert box.currentNode().GetName() == "ScalarVolume"
    window.choose(box, "Delete current ScalarVolume")
    assert box.currentNode() is None and box.nodeCount() == 1
    with pytest.raises(AssertionError, match="there is no 'MR'"):
        window.choose(box, "MR")
    box.enabled = False
    with pytest.raises(AssertionError, match="disabled"):
        window.choose(box, "CT1")


def test_attributes_narrow_what_is_offered(box: Any) -> None:
    add("ScalarVolume", "other")
    mine = add("ScalarVolume", "mine")
    mine.SetAttribute("MedSeqFT.Role", "train")
    box.addAttribute("vtkMRMLScalarVolumeNode", "MedSeqFT.Role", "train")
    assert box.nodeCount() == 1 and box.currentNode() is mine
    with pytest.raises(AttributeError, match="noneEnable'"):
        box.noneEnable = True


def test_a_box_that_is_gone_leaves_no_observer(program: Program) -> None:  # noqa: F811
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ("vtkMRMLScalarVolumeNode",)
    box.setMRMLScene(slicer.mrmlScene)
    gone, observed = weakref.ref(box._qt), box._qt._observer._observed
    assert len(observed) == 4
    del box
    gc.collect()
    assert gone() is None
    assert observed == []


def test_the_segment_editor_keeps_its_node(program: Program) -> None:  # noqa: F811
    editor, node = slicer.qMRMLSegmentEditorWidget(), add("SegmentEditor", "SegmentEditor")
    segmentation, volume = add("Segmentation", "result"), add("ScalarVolume", "CT1")
    segment = segmentation.GetSegmentation().AddEmptySegment("liver", "liver")
    with pytest.raises(RuntimeError, match="setMRMLScene"):
        editor.setMRMLSegmentEditorNode(node)
    editor.setMRMLScene(slicer.mrmlScene)
    with pytest.raises(RuntimeError, match="no editor node"):
        editor.setSegmentationNode(segmentation)
    seen: list[Any] = []
    editor.connect("segmentationNodeChanged(vtkMRMLSegmentationNode*)", seen.append)
    editor.setMRMLSegmentEditorNode(node)
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(volume)
    assert seen == [segmentation]
    assert (editor.segmentationNode(), node.GetSourceVolumeNode()) == (segmentation, volume)
    assert editor.currentSegmentID() == segment == node.GetSelectedSegmentID()
    editor.setActiveEffectByName("Paint")
    assert editor.activeEffect() is None and "Paint" in editor.availableEffectNames()
    editor.setMaximumNumberOfUndoStates(3)
    assert editor.maximumNumberOfUndoStates == 3
    with pytest.raises(AttributeError, match="segmentationNod'"):
        editor.segmentationNod()


def test_folders_are_typed_and_chosen(window: Window, tmp_path: Path) -> None:  # noqa: F811
    import ctk

    line, button, seen = ctk.ctkPathLineEdit(), ctk.ctkDirectoryButton(), []
    line.currentPathChanged.connect(seen.append)
    button.directoryChanged.connect(seen.append)
    line.show(), button.show()
    window.type(line, "/a")
    assert line.currentPath == "/a" and seen[-1] == "/a"
    window.dialogs.expect("Workspace", tmp_path)
    button.caption = "Workspace"
    button.browse()
    assert button.directory == str(tmp_path) == seen[-1]
    window.dialogs.expect("", None)
    button.browse()
    assert button.directory == str(tmp_path)


def test_a_folded_group_hides_what_lies_in_it(program: Program) -> None:  # noqa: F811
    import ctk
    import qt

    group = ctk.ctkCollapsibleGroupBox()
    label = qt.QLabel("inside", group)
    group.collapsed = True
    assert not label.isVisibleTo(group)
    group.collapsed = False
    assert label.isVisibleTo(group)


def test_a_plot_is_shown_in_the_real_layout(program: Program) -> None:  # noqa: F811
    manager = slicer.app.layoutManager()
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalPlotView)
    chart = add("PlotChart", "Loss")
    slicer.modules.plots.logic().ShowChartInLayout(chart)
    views = slicer.util.getNodesByClass("vtkMRMLPlotViewNode")
    assert [view.GetPlotChartNodeID() for view in views] == [chart.GetID()]
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalPlotView


def test_installers_record_what_is_asked(program: Program) -> None:  # noqa: F811
    packaging = importlib.import_module("slicer.packaging")
    program.installers.present = {"numpy"}
    program.dialogs.expect("1 Python packages need to be installed.")
    packaging.pip_ensure("numpy monai>=1.5", skip_packages=["torch"], requester="MedSeqFT")
    ended: list[int] = []
    packaging.pip_install(["peft"], blocking=False, completedCallback=ended.append)
    assert packaging.isPipInstallInProgress() and ended == []
    program.installers.finish()
    assert ended == [0]
    torch = importlib.import_module("PyTorchUtils").PyTorchUtilsLogic()
    program.dialogs.expect("PyTorch", False)
    assert torch.installTorch(askConfirmation=True) is None
    assert [call[:2] for call in program.installers.calls] == [
        ("pip_ensure", ["monai>=1.5"]),
        ("pip_install", ["peft"]),
    ]
    with pytest.raises(TypeError):
        packaging.pip_install("peft", quiet=True)


def test_slicer_5_10_has_no_packaging(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    program.installers.install(monkeypatch, packaging=False, torch=False)
    assert not hasattr(slicer, "packaging")
    for absent in ("slicer.packaging", "PyTorchUtils"):
        with pytest.raises(ImportError):
            importlib.import_module(absent)
    slicer.util.pip_install("peft")
    with pytest.raises(TypeError):
        slicer.util.pip_install("peft", skip_packages=["torch"])
    program.installers.fails = RuntimeError("no network")
    with pytest.raises(RuntimeError, match="no network"):
        slicer.util.pip_install("peft")


def test_an_unknown_part_of_the_application_raises(program: Program) -> None:  # noqa: F811
    for name in ("mainWindw", "pythonConsole", "layoutManger"):
        with pytest.raises(AttributeError):
            getattr(slicer.app, name)
    with pytest.raises(AttributeError):
        slicer.app.layoutManager().sliceWidget("Red")
    assert slicer.util.mainWindow() is None


def test_the_window_is_closed_and_opened_again(window: Window) -> None:  # noqa: F811
    old, frame = window.widget, window.frame
    calls: list[str] = []
    cleanup = old.cleanup
    old.cleanup = lambda: (calls.append("cleanup"), cleanup())
    window.reopen()
    assert calls == ["cleanup"] and window.widget is not old
    assert window.ui.versionLabel.text
    with pytest.raises(RuntimeError, match="deleted"):
        frame.isVisible()
    assert slicer.modules.medseqft.widgetRepresentation().self() is window.widget
    assert window.widget.parent.isEntered
    window.switch_away()
    assert not window.widget.parent.isEntered


def test_the_module_is_left_and_entered_once_each_time(window: Window) -> None:  # noqa: F811
    calls: list[str] = []
    window.widget.enter = lambda: calls.append("enter")
    window.widget.exit = lambda: calls.append("exit")
    for name in ("MedSeqFT", "SegmentEditor", "Data", "MedSeqFT"):
        slicer.util.selectModule(name)
    assert calls == ["exit", "enter"]
    with pytest.raises(AttributeError, match="SegmentEditr"):
        slicer.util.selectModule("SegmentEditr")


def test_a_closed_window_is_forgotten(window: Window) -> None:  # noqa: F811
    widgets = len(QtWidgets.QApplication.allWidgets())
    gone = []
    for _turn in range(3):
        gone.append(weakref.ref(window.widget))
        window.reopen()
        gc.collect()
    assert [widget() for widget in gone] == [None, None, None]
    assert len(QtWidgets.QApplication.allWidgets()) == widgets
