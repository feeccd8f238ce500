"""Noticing that a segmentation is edited, and how much time a person spends on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import slicer

#: Seconds: a longer pause between two edits counts as this much. Whoever goes to lunch does not correct.
LONGEST_PAUSE = 120.0
_EDITS = ("SegmentAdded", "SegmentRemoved", "SegmentModified", "SourceRepresentationModified")


class Attention:
    """Follows one segmentation node at a time. The node remembers: it may be left, saved, and come back to."""

    def __init__(self, edited: Callable[[], None]) -> None:
        """`edited` is called after each edit."""
        self._edited = edited
        self._observers: Any = None
        self._node: Any = None  # weak
        self._looked: float | None = None  # when time was last counted; None: nobody is looking

    @property
    def node(self) -> Any:
        """What is followed; None if nothing is, or it has gone."""
        return self._node.Get() if self._node is not None else None

    def follow(self, node: Any, looking: bool) -> None:
        """Follow a segmentation node, or None; time counts only while the user is `looking`."""
        if node is not self.node:
            self._count(False)
            self._observe(node)
        self._count(looking and node is not None)

    def close(self) -> None:
        """Follow nothing."""
        self.follow(None, False)
        if self._observers is not None:
            self._observers.close()
            self._observers = None

    def _observe(self, node: Any) -> None:
        from MedSeqFTLib.scene.observers import Observers, weak

        if self._observers is None:
            self._observers = Observers(slicer.mrmlScene)
        self._observers.remove_all()
        self._node = weak(node)
        for name in _EDITS if node is not None else ():
            self._observers.add(node, getattr(slicer.vtkSegmentation, name), self._noticed)

    def _noticed(self, *_event: Any) -> None:
        from MedSeqFTLib.scene.marks import set_edited

        node = self.node
        if node is None or slicer.mrmlScene.IsClosing():
            return
        set_edited(node, True)
        self._count(self._looked is not None)
        self._edited()

    def _count(self, looking: bool) -> None:
        """Add the time since the last call, if somebody was looking."""
        from MedSeqFTLib.scene.marks import add_seconds

        present = time.monotonic()
        if self._looked is not None and self.node is not None:
            add_seconds(self.node, min(present - self._looked, LONGEST_PAUSE))
        self._looked = present if looking else None
