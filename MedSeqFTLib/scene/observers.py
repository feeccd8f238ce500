"""Observers that cannot be forgotten, and references that keep nothing alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import slicer
import vtk


def weak(vtk_object: Any) -> Any:
    """A vtkWeakReference: its Get() gives the object, or None when VTK has deleted it.

    Python's own weak references speak of the wrapper, which may go while the object lives on.
    """
    reference = vtk.vtkWeakReference()
    reference.Set(vtk_object)
    return reference


class Observers:
    """Observes nodes, and stops when the scene is closed, when `close` is called, or when this object is gone.

    Callbacks get (caller, event), as VTK calls them. VTK holds them as long as they are registered: a bound method
    keeps its object alive until then.
    """

    def __init__(self, scene: Any) -> None:
        """For nodes of a vtkMRMLScene."""
        self._entries: list[tuple[Any, int]] = []  # weak reference to what is observed, tag
        entries = self._entries  # the callback must not hold self
        closing = scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, lambda *_: _remove(entries))
        self._finalizer = weakref.finalize(self, _remove_with_scene, entries, weak(scene), closing)

    def add(self, observed: Any, event: int | str, callback: Callable[..., None]) -> None:
        """Call `callback` at an event of a vtkObject."""
        self._entries.append((weak(observed), observed.AddObserver(event, callback)))

    def remove_all(self) -> None:
        """Stop observing. More can be added afterwards."""
        _remove(self._entries)

    def close(self) -> None:
        """Stop observing for good, the scene, too."""
        self._finalizer()

    def __len__(self) -> int:
        return len(self._entries)


def _remove(entries: list[tuple[Any, int]]) -> None:
    for reference, tag in entries:
        if (observed := reference.Get()) is not None:
            observed.RemoveObserver(tag)
    entries.clear()


def _remove_with_scene(entries: list[tuple[Any, int]], scene: Any, closing: int) -> None:
    _remove([*entries, (scene, closing)])
    entries.clear()
