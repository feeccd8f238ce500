"""qMRMLNodeComboBox, written for PySide6 over the real scene, and what it stands on."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from PySide6 import QtCore, QtWidgets
from shiboken6 import Shiboken


class qMRMLWidget(QtWidgets.QWidget):  # noqa: N801
    """The root of a module's .ui: hands the scene on."""

    mrmlSceneChanged = QtCore.Signal(object)  # noqa: N815
    SIGNATURES = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}  # noqa: RUF012

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:  # noqa: N802
        return self._scene


class SceneObserver:
    """Refreshes a widget when nodes come, go or change their names, until the widget is destroyed."""

    EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndBatchProcessEvent", "EndCloseEvent")

    def __init__(self, owner: QtWidgets.QWidget) -> None:
        self._called = partial(refresh, weakref.ref(owner))
        self._observed: list[tuple[Any, int]] = []
        owner.destroyed.connect(partial(release, self._observed))

    def follow(self, scene: Any, nodes: list[Any]) -> None:
        """Look at these from now on, and at nothing else."""
        release(self._observed)
        self._observed += [(node, node.AddObserver("ModifiedEvent", self._called)) for node in nodes]
        if scene is not None:
            self._observed += [(scene, scene.AddObserver(getattr(scene, name), self._called)) for name in self.EVENTS]


def release(observed: list[tuple[Any, int]], *_arguments: Any) -> None:
    """Remove the observers of a list, and empty it."""
    while observed:
        seen, tag = observed.pop()
        seen.RemoveObserver(tag)


def refresh(owner: Callable[[], Any], *_arguments: Any) -> None:
    """What VTK calls: it holds the widget weakly."""
    widget = owner()
    if widget is not None and Shiboken.isValid(widget):
        widget.refresh()


def option(name: str, kind: type) -> Any:
    """A property of Qt that is kept in `_options` and changes what is offered."""

    def change(self: Any, value: Any) -> None:
        self._options[name] = value
        self.refresh()

    return QtCore.Property(kind, lambda self: self._options[name], change)


class qMRMLNodeComboBox(qMRMLWidget):  # noqa: N801
    """Chooses a node of the scene. Renaming and editing from its menu are not there."""

    currentNodeChanged = QtCore.Signal(object)  # noqa: N815
    currentNodeIDChanged = QtCore.Signal(str)  # noqa: N815
    validNodeChanged = QtCore.Signal(bool)  # noqa: N815
    nodeAddedByUser = QtCore.Signal(object)  # noqa: N815
    SIGNATURES = {  # noqa: RUF012
        **qMRMLWidget.SIGNATURES,
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "validNodeChanged",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
    }

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._types: list[str] = []
        self._wanted: dict[tuple[str, str], str | None] = {}
        self._options: dict[str, Any] = {
            "noneEnabled": False,
            "noneDisplay": "None",
            "addEnabled": True,
            "removeEnabled": True,
            "renameEnabled": False,
            "editEnabled": False,
            "showHidden": False,
            "showChildNodeTypes": True,
            "selectNodeUponCreation": True,
            "baseName": "",
        }
        self._nodes: list[Any] = []
        self._current: Any = None
        self.box = QtWidgets.QComboBox(self)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.box)
        self.box.activated.connect(self._activated)
        self._observer = SceneObserver(self)

    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        super().setMRMLScene(scene)
        self.refresh()

    def refresh(self) -> None:
        """Show what the scene holds now."""
        self._nodes = list(self._offered())
        self._observer.follow(self._scene, self._nodes)
        keep = next((node for node in self._nodes if node is self._current), None)
        if keep is None and self._nodes and not self._options["noneEnabled"]:
            keep = self._nodes[0]
        self._fill()
        self._choose(keep)

    def _offered(self) -> Iterator[Any]:
        for index in range(self._scene.GetNumberOfNodes() if self._scene is not None else 0):
            node = self._scene.GetNthNode(index)
            if self._fits(node) and (self._options["showHidden"] or not node.GetHideFromEditors()):
                yield node

    def _fits(self, node: Any) -> bool:
        child = self._options["showChildNodeTypes"]
        kind = next((kind for kind in self._types if (node.IsA(kind) if child else node.GetClassName() == kind)), None)
        if kind is None:
            return False
        asked = [(name, value) for (of, name), value in self._wanted.items() if of == kind]
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name)) for name, value in asked
        )

    def _fill(self) -> None:
        self.box.clear()
        if self._options["noneEnabled"]:
            self.box.addItem(self._options["noneDisplay"], None)
        for node in self._nodes:
            self.box.addItem(node.GetName(), node.GetID())
        self.box.insertSeparator(self.box.count())
        kind = self._types[0].removeprefix("vtkMRML").removesuffix("Node") if self._types else ""
        if self._options["addEnabled"]:
            self.box.addItem(f"Create new {kind}", "add")
        if self._options["removeEnabled"]:
            self.box.addItem(f"Delete current {kind}", "remove")
        self._select()

    def _select(self) -> None:
        index = self.box.findData(self._current.GetID()) if self._current is not None else -1
        self.box.setCurrentIndex(0 if index < 0 and self._options["noneEnabled"] else index)

    def _choose(self, node: Any) -> None:
        changed, self._current = node is not self._current, node
        self._select()
        if changed:
            self.currentNodeChanged.emit(node)
            self.validNodeChanged.emit(node is not None)
            self.currentNodeIDChanged.emit(self.currentNodeID)

    def _activated(self, index: int) -> None:
        chosen = self.box.itemData(index)
        self._select()
        if chosen == "add":
            self.addNode()
        elif chosen == "remove":
            self.removeCurrentNode()
        else:
            self.setCurrentNodeID(chosen or "")

    def currentNode(self) -> Any:  # noqa: N802
        return self._current

    def setCurrentNode(self, node: Any) -> None:  # noqa: N802
        """A node that is not offered, or an identifier, is refused as in Slicer: nothing is chosen."""
        if isinstance(node, str):
            self.setCurrentNodeID(node)
        else:
            self._choose(next((offered for offered in self._nodes if offered is node), None))

    def setCurrentNodeID(self, identifier: str) -> None:  # noqa: N802
        self._choose(next((node for node in self._nodes if node.GetID() == identifier), None))

    def setCurrentNodeIndex(self, index: int) -> None:  # noqa: N802
        self._choose(self._nodes[index] if 0 <= index < len(self._nodes) else None)

    def nodeFromIndex(self, index: int) -> Any:  # noqa: N802
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def nodeCount(self) -> int:  # noqa: N802
        return len(self._nodes)

    def addNode(self, kind: str = "") -> Any:  # noqa: N802
        name = self._options["baseName"] or (kind or self._types[0]).removeprefix("vtkMRML").removesuffix("Node")
        node = self._scene.AddNewNodeByClass(kind or self._types[0], self._scene.GenerateUniqueName(name))
        if self._options["selectNodeUponCreation"]:
            self._choose(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:  # noqa: N802
        if self._current is not None:
            self._scene.RemoveNode(self._current)

    def addAttribute(self, kind: str, name: str, value: str | None = None) -> None:  # noqa: N802
        self._wanted[kind, name] = value
        self.refresh()

    def removeAttribute(self, kind: str, name: str) -> None:  # noqa: N802
        self._wanted.pop((kind, name))
        self.refresh()

    def _set_types(self, types: list[str]) -> None:
        self._types = list(types)
        self.refresh()

    nodeTypes = QtCore.Property("QStringList", lambda self: self._types, _set_types)  # noqa: N815
    currentNodeID = QtCore.Property(  # noqa: N815
        str, lambda self: self._current.GetID() if self._current is not None else "", setCurrentNodeID
    )
    noneEnabled = option("noneEnabled", bool)  # noqa: N815
    noneDisplay = option("noneDisplay", str)  # noqa: N815
    addEnabled = option("addEnabled", bool)  # noqa: N815
    removeEnabled = option("removeEnabled", bool)  # noqa: N815
    renameEnabled = option("renameEnabled", bool)  # noqa: N815
    editEnabled = option("editEnabled", bool)  # noqa: N815
    showHidden = option("showHidden", bool)  # noqa: N815
    showChildNodeTypes = option("showChildNodeTypes", bool)  # noqa: N815
    selectNodeUponCreation = option("selectNodeUponCreation", bool)  # noqa: N815
    baseName = option("baseName", str)  # noqa: N815
