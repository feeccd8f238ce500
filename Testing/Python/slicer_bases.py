"""The four base classes of a scripted module, as Slicer documents them."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any

from PySide6 import QtWidgets
from pythonqt_layer import Proxy
from slicer_samples import slicer


class ScriptedLoadableModule:
    """What the module tells about itself."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__

    def resourcePath(self, name: str) -> str:  # noqa: N802
        return str(resources(type(self)) / name)


class ScriptedLoadableModuleWidget:
    """`enter` and `exit` are called only if the module has them."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        if parent is None:
            parent = Proxy(QtWidgets.QWidget())
            QtWidgets.QVBoxLayout(parent._qt)
        self.parent = parent
        self.layout = parent.layout()

    def setup(self) -> None:
        """Slicer adds its Reload buttons here, in developer mode."""

    def cleanup(self) -> None:
        """Before the module is unloaded."""

    def onReload(self) -> None:  # noqa: N802
        slicer.util.reloadScriptedModule(self.moduleName)

    def resourcePath(self, name: str) -> str:  # noqa: N802
        return str(resources(type(self)) / name)


class ScriptedLoadableModuleLogic:
    """Keeps the parameter node in the scene."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:  # noqa: N802
        scene = slicer.mrmlScene
        if self.isSingletonParameterNode:
            node = scene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node is not None:
                node.SetAttribute("ModuleName", self.moduleName)  # closing the scene may have removed it
                return node
        elif nodes := self.getAllParameterNodes():
            return nodes[0]
        return scene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list[Any]:  # noqa: N802
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self) -> Any:  # noqa: N802
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Run by Reload and Test."""

    def delayDisplay(self, message: str, *_delays: Any) -> None:  # noqa: N802
        slicer.util.delayDisplay(message, 100)


def resources(kind: type) -> Path:
    """The folder Resources beside the file of the module's class."""
    return Path(sys.modules[kind.__module__].__file__ or "").parent / "Resources"


BASES = (
    ScriptedLoadableModule,
    ScriptedLoadableModuleWidget,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)


def module() -> ModuleType:
    """slicer.ScriptedLoadableModule."""
    found = ModuleType("slicer.ScriptedLoadableModule")
    for kind in BASES:
        setattr(found, kind.__name__, kind)
    return found
