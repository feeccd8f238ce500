"""Nothing stays behind: observers, nodes, memory."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import psutil
from imaging_samples import counting_image, oblique
from slicer_boot import scene as scene  # a fixture
from slicer_samples import slicer, vtk

from MedSeqFTLib.scene.observers import Observers, weak
from MedSeqFTLib.scene.placing import add_segmentation
from MedSeqFTLib.scene.segmentations import drawn_on
from MedSeqFTLib.scene.volumes import add_volume, image_of, volume_grid
from MedSeqFTLib.workspace.schema import Label

MODIFIED = vtk.vtkCommand.ModifiedEvent
LABELS = (Label(value=4, name="ball", color=(1, 0, 0)),)


def test_events_arrive_until_they_are_removed(scene: Any) -> None:
    node, heard = scene.AddNewNodeByClass("vtkMRMLTextNode"), []
    observers = Observers(scene)
    observers.add(node, MODIFIED, lambda caller, event: heard.append((caller, event)))
    node.SetName("first")
    assert heard[-1] == (node, "ModifiedEvent")
    count = len(heard)
    observers.remove_all()
    node.SetName("second")
    assert (len(heard), len(observers)) == (count, 0)
    observers.add(node, MODIFIED, lambda *_: heard.append("again"))
    node.SetName("third")
    assert heard[-1] == "again"


def test_closing_the_scene_removes_them_and_the_next_scene_can_be_observed(scene: Any) -> None:
    observers, heard = Observers(scene), []
    for _ in range(3):
        node = scene.AddNewNodeByClass("vtkMRMLTextNode")
        observers.add(node, MODIFIED, lambda *_: heard.append(1))
        scene.Clear()
        assert len(observers) == 0
        count = len(heard)
        node.SetName("of a closed scene")
        assert len(heard) == count


def test_close_and_garbage_collection_remove_everything(scene: Any) -> None:
    node = scene.AddNewNodeByClass("vtkMRMLTextNode")
    had = scene.HasObserver(slicer.vtkMRMLScene.StartCloseEvent)

    class Panel:
        def __init__(self) -> None:
            self.observers = Observers(scene)
            self.observers.add(node, "ModifiedEvent", lambda *_: None)

    for explicit in (True, False):
        panel = Panel()
        assert scene.HasObserver(slicer.vtkMRMLScene.StartCloseEvent)
        before = node.HasObserver(MODIFIED)
        if explicit:
            panel.observers.close()
        del panel
        gc.collect()
        assert before
        assert scene.HasObserver(slicer.vtkMRMLScene.StartCloseEvent) == had
        assert not node.HasObserver(MODIFIED)


def test_observing_keeps_nothing_alive(scene: Any) -> None:
    observers = Observers(scene)
    node = scene.AddNewNodeByClass("vtkMRMLTextNode")
    observers.add(node, MODIFIED, lambda *_: None)
    reference = weak(node)
    scene.RemoveNode(node)
    del node
    assert reference.Get() is None
    observers.close()


def test_opening_and_closing_50_scenes_leaves_nothing_behind(scene: Any) -> None:
    """Each time 7 MB are loaded, segmented and read. Nodes, observers and memory are as before, within 40 MB."""
    grid = oblique((192, 192, 96))
    image = counting_image(grid, np.int16)
    label_map = grid.image_of((np.arange(96 * 192 * 192).reshape(96, 192, 192) % 5 == 4).astype(np.uint8) * 4)
    scene.Clear()
    empty = scene.GetNumberOfNodes()
    observers = Observers(scene)
    memory, references = [], []
    for _ in range(50):
        volume = add_volume(scene, image, "scan")
        observers.add(volume, MODIFIED, lambda *_: None)
        node = add_segmentation(volume, label_map, LABELS, "ball")
        drawn_on(node, volume_grid(volume))
        image_of(volume)
        references += [weak(volume), weak(node), weak(node.GetSegmentation()), weak(volume.GetImageData())]
        del volume, node
        scene.Clear()
        memory.append(psutil.Process().memory_info().rss)
    assert not any(reference.Get() for reference in references)
    assert scene.GetNumberOfNodes() == empty
    assert len(observers) == 0
    assert memory[-1] - memory[4] < 40e6, [round(size / 1e6) for size in memory[::5]]
