"""The widgets of MRML that the module's .ui names, written for PySide6 over the real scene."""

from __future__ import annotations

from typing import Any

from node_combo_box import option, qMRMLNodeComboBox, qMRMLWidget
from PySide6 import QtCore, QtWidgets


class qMRMLSegmentEditorWidget(qMRMLWidget):  # noqa: N801
    """Stands in for the Segment Editor: it keeps the editor node as the real one does, and has no effects.

    Voxels are edited through the nodes. The choice of an effect is kept in the node, but does nothing.
    """

    currentSegmentIDChanged = QtCore.Signal(str)  # noqa: N815
    sourceVolumeNodeChanged = QtCore.Signal(object)  # noqa: N815
    segmentationNodeChanged = QtCore.Signal(object)  # noqa: N815
    SIGNATURES = {  # noqa: RUF012
        **qMRMLWidget.SIGNATURES,
        "sourceVolumeNodeChanged(vtkMRMLVolumeNode*)": "sourceVolumeNodeChanged",
        "segmentationNodeChanged(vtkMRMLSegmentationNode*)": "segmentationNodeChanged",
    }

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._editor: Any = None
        self._order: tuple[str, ...] = ()
        self._shortcuts = False
        self._options: dict[str, Any] = dict.fromkeys(SHOWN, True) | {
            "readOnly": False,
            "maximumNumberOfUndoStates": 10,
            "effectColumnCount": 2,
            "defaultTerminologyEntry": "",
            "defaultTerminologyEntrySettingsKey": "",
        }
        layout = QtWidgets.QVBoxLayout(self)
        self._text = QtWidgets.QLabel("The Segment Editor stands here in Slicer.", self)
        layout.addWidget(self._text)

    def refresh(self) -> None:
        """Nothing of the options is seen in the stand-in."""

    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        """As in Slicer, the editor node belongs to a scene."""
        if scene is not self.mrmlScene():
            self._editor = None
        super().setMRMLScene(scene)

    def mrmlSegmentEditorNode(self) -> Any:  # noqa: N802
        return self._editor

    def setMRMLSegmentEditorNode(self, node: Any) -> None:  # noqa: N802
        if node is not None and self.mrmlScene() is None:
            raise RuntimeError("setMRMLScene must come before setMRMLSegmentEditorNode")
        self._editor = node

    def _node(self) -> Any:
        """Slicer prints an error and goes on without an editor node; here it raises: stricter."""
        if self._editor is None:
            raise RuntimeError("the Segment Editor has no editor node yet: setMRMLSegmentEditorNode comes first")
        return self._editor

    def segmentationNode(self) -> Any:  # noqa: N802
        return self._editor.GetSegmentationNode() if self._editor is not None else None

    def segmentationNodeID(self) -> str:  # noqa: N802
        node = self.segmentationNode()
        return str(node.GetID()) if node is not None else ""

    def setSegmentationNode(self, node: Any) -> None:  # noqa: N802
        changed = node is not self.segmentationNode()
        self._node().SetAndObserveSegmentationNode(node)
        if changed:
            ids = node.GetSegmentation().GetSegmentIDs() if node is not None else ()
            self.setCurrentSegmentID(ids[0] if ids else "")
            self.segmentationNodeChanged.emit(node)

    def sourceVolumeNode(self) -> Any:  # noqa: N802
        return self._editor.GetSourceVolumeNode() if self._editor is not None else None

    def sourceVolumeNodeID(self) -> str:  # noqa: N802
        node = self.sourceVolumeNode()
        return str(node.GetID()) if node is not None else ""

    def setSourceVolumeNode(self, node: Any) -> None:  # noqa: N802
        changed = node is not self.sourceVolumeNode()
        self._node().SetAndObserveSourceVolumeNode(node)
        if changed:
            self.sourceVolumeNodeChanged.emit(node)

    def currentSegmentID(self) -> str:  # noqa: N802
        return str(self._editor.GetSelectedSegmentID() or "") if self._editor is not None else ""

    def setCurrentSegmentID(self, identifier: str) -> None:  # noqa: N802
        changed = identifier != self.currentSegmentID()
        self._node().SetSelectedSegmentID(identifier)
        if changed:
            self.currentSegmentIDChanged.emit(identifier)

    def activeEffect(self) -> None:  # noqa: N802
        """There are no effects."""

    def setActiveEffectByName(self, name: str) -> None:  # noqa: N802
        self._node().SetActiveEffectName(name)

    def availableEffectNames(self) -> list[str]:  # noqa: N802
        """Those that Slicer brings along."""
        return list(EFFECTS)

    def effectNameOrder(self) -> list[str]:  # noqa: N802
        return list(self._order)

    def setEffectNameOrder(self, names: list[str]) -> None:  # noqa: N802
        self._order = tuple(names)

    def setMaximumNumberOfUndoStates(self, count: int) -> None:  # noqa: N802
        self._options["maximumNumberOfUndoStates"] = count

    def setupViewObservations(self) -> None:  # noqa: N802
        """There are no views."""

    def removeViewObservations(self) -> None:  # noqa: N802
        """There are no views."""

    def installKeyboardShortcuts(self, _parent: Any = None) -> None:  # noqa: N802
        """In Slicer a second time would print a warning; here it raises: a missing exit() is found."""
        if self._shortcuts:
            raise RuntimeError("the Segment Editor's shortcuts are installed already")
        self._shortcuts = True

    def uninstallKeyboardShortcuts(self) -> None:  # noqa: N802
        self._shortcuts = False

    def updateWidgetFromMRML(self) -> None:  # noqa: N802
        """The stand-in reads the node each time."""

    def saveStateForUndo(self) -> None:  # noqa: N802
        if self.segmentationNode() is None:
            raise RuntimeError("the Segment Editor has no segmentation to keep")

    maximumNumberOfUndoStates = option("maximumNumberOfUndoStates", int)  # noqa: N815
    effectColumnCount = option("effectColumnCount", int)  # noqa: N815
    defaultTerminologyEntry = option("defaultTerminologyEntry", str)  # noqa: N815
    defaultTerminologyEntrySettingsKey = option("defaultTerminologyEntrySettingsKey", str)  # noqa: N815
    readOnly = option("readOnly", bool)  # noqa: N815
    segmentationNodeSelectorVisible = option("segmentationNodeSelectorVisible", bool)  # noqa: N815
    sourceVolumeNodeSelectorVisible = option("sourceVolumeNodeSelectorVisible", bool)  # noqa: N815
    maskingSectionVisible = option("maskingSectionVisible", bool)  # noqa: N815
    specifyGeometryButtonVisible = option("specifyGeometryButtonVisible", bool)  # noqa: N815
    show3DButtonVisible = option("show3DButtonVisible", bool)  # noqa: N815
    addRemoveSegmentButtonsVisible = option("addRemoveSegmentButtonsVisible", bool)  # noqa: N815
    autoShowSourceVolumeNode = option("autoShowSourceVolumeNode", bool)  # noqa: N815
    switchToSegmentationsButtonVisible = option("switchToSegmentationsButtonVisible", bool)  # noqa: N815
    undoEnabled = option("undoEnabled", bool)  # noqa: N815
    unorderedEffectsVisible = option("unorderedEffectsVisible", bool)  # noqa: N815
    jumpToSelectedSegmentEnabled = option("jumpToSelectedSegmentEnabled", bool)  # noqa: N815


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):  # noqa: N801
    """What Slicer hands to the module's widget as `parent`."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.entered = False

    isEntered = QtCore.Property(bool, lambda self: self.entered)  # noqa: N815


#: What is shown unless the code hides it.
SHOWN = (
    "segmentationNodeSelectorVisible sourceVolumeNodeSelectorVisible maskingSectionVisible "
    "specifyGeometryButtonVisible show3DButtonVisible addRemoveSegmentButtonsVisible autoShowSourceVolumeNode "
    "switchToSegmentationsButtonVisible undoEnabled unorderedEffectsVisible jumpToSelectedSegmentEnabled"
).split()
EFFECTS = ("Threshold", "Paint", "Draw", "Erase", "Level tracing", "Grow from seeds", "Fill between slices", "Margin",
    "Hollow", "Smoothing", "Scissors", "Islands", "Logical operators", "Mask volume")  # fmt: skip
MRML_WIDGETS: tuple[type[QtWidgets.QWidget], ...] = (qMRMLWidget, qMRMLNodeComboBox, qMRMLSegmentEditorWidget)
