"""The stand-in of parameterNodeWrapper, over a real node and real widgets."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from parameter_nodes import Choice, Default, WithinRange, parameterNodeWrapper
from PySide6 import QtCore, QtWidgets
from slicer_program import Program, program, scene  # noqa: F401
from slicer_samples import slicer


@parameterNodeWrapper
class Wrapped:
    folder: Path
    name: str = "liver"
    preset: Annotated[str, Choice(["quick", "thorough"])] = "quick"
    cases: Annotated[int, WithinRange(1, 9)] = 3
    weight: Annotated[float, Default(0.5)]
    shown: bool = True
    volume: slicer.vtkMRMLScalarVolumeNode


def logic() -> Any:
    base = sys.modules["slicer.ScriptedLoadableModule"].ScriptedLoadableModuleLogic
    return type("MedSeqFTLogic", (base,), {})()


@pytest.fixture
def parameters(program: Program) -> Any:  # noqa: F811
    return Wrapped(logic().getParameterNode())


def widgets(**named: str) -> SimpleNamespace:
    """A widget of each class for a parameter."""
    import ctk
    import qt

    found = {}
    for parameter, kind in named.items():
        source = next(source for source in (qt, ctk, slicer) if hasattr(source, kind))
        widget = getattr(source, kind)()
        widget.setProperty("SlicerParameterName", parameter)
        found[parameter] = widget
    return SimpleNamespace(**found)


def test_the_node_is_the_singleton_of_the_module(program: Program) -> None:  # noqa: F811
    node = logic().getParameterNode()
    assert logic().getParameterNode() is node
    assert (node.GetSingletonTag(), node.GetAttribute("ModuleName")) == ("MedSeqFT", "MedSeqFT")
    assert slicer.mrmlScene.GetNodeByID("vtkMRMLScriptedModuleNodeMedSeqFT") is node


def test_values_and_nodes_are_kept_in_the_real_node(parameters: Any) -> None:
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    assert (parameters.name, parameters.cases, parameters.weight, parameters.volume) == ("liver", 3, 0.5, None)
    parameters.folder, parameters.shown, parameters.volume = Path("/a"), False, volume
    again = Wrapped(logic().getParameterNode())
    assert (again.folder, again.shown) == (Path("/a"), False)
    assert again.volume is volume
    slicer.mrmlScene.RemoveNode(volume)
    assert again.volume is None


def test_wrong_values_and_names_are_refused(parameters: Any) -> None:
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    for name, value, error in (
        ("preset", "slow", ValueError),
        ("cases", 10, ValueError),
        ("cases", "3", TypeError),
        ("name", None, ValueError),
        ("folder", "/a", TypeError),
        ("volume", segmentation, TypeError),
        ("volumes", None, AttributeError),
    ):
        with pytest.raises(error):
            setattr(parameters, name, value)
    with pytest.raises(ValueError, match="Cannot find a param"):
        parameters.getValue("volumes")
    with pytest.raises(TypeError, match="no parameter of type"):
        parameterNodeWrapper(type("Bad", (), {"__annotations__": {"many": list[int]}}))


def test_widgets_and_parameters_follow_each_other(parameters: Any) -> None:
    ui = widgets(
        name="QLineEdit",
        preset="QComboBox",
        cases="QSpinBox",
        weight="QDoubleSpinBox",
        shown="QCheckBox",
        folder="ctkPathLineEdit",
    )
    tag = parameters.connectGui(ui)
    assert [ui.preset.itemText(index) for index in range(ui.preset.count)] == ["quick", "thorough"]
    assert (ui.name.text, ui.cases.value, ui.cases.maximum, ui.shown.checked) == ("liver", 3, 9, True)
    ui.name.text, ui.preset.currentIndex, ui.shown.checked, ui.folder.currentPath = "spleen", 1, False, "/a"
    assert (parameters.name, parameters.preset, parameters.shown, parameters.folder) == (
        "spleen",
        "thorough",
        False,
        Path("/a"),
    )
    parameters.cases, parameters.weight = 5, 0.25
    assert (ui.cases.value, ui.weight.value) == (5, 0.25)
    parameters.disconnectGui(tag)
    ui.name.text, parameters.cases = "kidney", 6
    assert (parameters.name, ui.cases.value) == ("spleen", 5)


def test_a_button_a_folder_and_a_node_are_bound(parameters: Any, tmp_path: Path) -> None:
    ui = widgets(shown="QPushButton", folder="ctkDirectoryButton", volume="qMRMLNodeComboBox")
    ui.volume.noneEnabled = True
    ui.volume.setMRMLScene(slicer.mrmlScene)
    parameters.connectGui(ui)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    assert ui.volume.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert parameters.volume is None
    ui.volume.setCurrentNode(volume)
    assert parameters.volume is volume
    parameters.volume = None
    assert ui.volume.currentNode() is None
    ui.shown.checked, ui.folder.directory = False, str(tmp_path)
    assert (parameters.shown, parameters.folder) == (False, tmp_path)


def test_a_name_that_is_no_parameter_and_a_wrong_widget_are_refused(parameters: Any) -> None:
    ui = widgets(nmae="QLineEdit")
    with pytest.raises(ValueError, match="nmae"):
        parameters.connectGui(ui)
    with pytest.raises(RuntimeError, match="Unable to create GUI connector"):
        parameters.connectGui(widgets(name="QSpinBox"))
    with pytest.raises(RuntimeError, match="Choice"):
        parameters.connectGui(widgets(name="QComboBox"))


def test_a_closed_scene_keeps_the_singleton_without_values(program: Program) -> None:  # noqa: F811
    parameters = Wrapped(logic().getParameterNode())
    parameters.name = "spleen"
    slicer.mrmlScene.Clear()
    assert Wrapped(logic().getParameterNode()).name == "liver"


def test_the_observation_mixin_of_slicer_works_with_the_widget_base(program: Program) -> None:  # noqa: F811
    base = sys.modules["slicer.ScriptedLoadableModule"].ScriptedLoadableModuleWidget

    class TestWidget(base, slicer.util.VTKObservationMixin):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            slicer.util.VTKObservationMixin.__init__(self)

    widget, seen = TestWidget(), []
    widget.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, lambda *_: seen.append("start"))
    widget.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, lambda *_: seen.append("end"))
    slicer.mrmlScene.Clear()
    widget.removeObservers()
    slicer.mrmlScene.Clear()
    assert seen == ["start", "end"]
    assert isinstance(widget.parent._qt, QtWidgets.QWidget) and not widget.developerMode
    assert isinstance(widget.parent._qt.layout(), QtCore.QObject)
