"""What the Slicer program brings along and slicer-core lacks, as far as our code uses it. Real classes, no mocks.

An attribute that is not defined here raises AttributeError, as a misspelt one would in Slicer.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from slicer_samples import slicer

FILE_TYPES = {
    "VolumeFile": ("vtkMRMLScalarVolumeNode", "vtkMRMLNRRDStorageNode"),
    "SegmentationFile": ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode"),
}
#: Colors first: the others look for its tables.
LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
}


class Module:
    """A loadable module, as far as its logic."""

    def __init__(self, logic: Any) -> None:
        self._logic = logic

    def logic(self) -> Any:
        return self._logic


class IOManager:
    """Reads the files of slicer.util.loadVolume and loadSegmentation into the scene."""

    def loadNodes(self, kind: str, properties: dict[str, Any], loaded: Any, messages: Any) -> bool:  # noqa: N802
        node_class, storage_class = FILE_TYPES[kind]
        path = str(properties["fileName"])
        node = slicer.mrmlScene.AddNewNodeByClass(node_class, path.replace("\\", "/").rpartition("/")[2].split(".")[0])
        storage = slicer.mrmlScene.AddNewNodeByClass(storage_class)
        storage.SetFileName(path)
        if not storage.ReadData(node):
            return False
        node.SetAndObserveStorageNodeID(storage.GetID())
        node.CreateDefaultDisplayNodes()
        loaded.AddItem(node)
        return True


def boot(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set up slicer.mrmlScene, slicer.modules and slicer.app; undone with `monkeypatch`. Returns the scene."""
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    modules = {}
    for name, kind in LOGICS.items():
        logic = getattr(slicer, kind)()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        application.SetModuleLogic(name, logic)
        modules[name.lower()] = Module(logic)
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    monkeypatch.setattr(slicer, "modules", SimpleNamespace(**modules), raising=False)
    monkeypatch.setattr(slicer, "app", SimpleNamespace(coreIOManager=IOManager), raising=False)
    monkeypatch.setattr(slicer, "application_logic_of_test", application, raising=False)  # keeps the logics alive
    return scene


def complaints(text: str) -> list[str]:
    """Errors and warnings that VTK printed, apart from those for the colour files, which slicer-core lacks."""
    lines = [line for line in text.splitlines() if "ERR|" in line or "WARN|" in line]
    return [line for line in lines if "HomeDirectory is not set" not in line and "GenericColors" not in line]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """An empty slicer.mrmlScene. At the end VTK must not have complained."""
    scene = boot(monkeypatch)
    yield scene
    scene.Clear()
    assert complaints(capfd.readouterr().err) == []
