"""The scans of the tutorial for Slicer's module Sample Data, which waits until they are in the scene."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import slicer

from MedSeqFTLib.scene.panels.background import waited_for


def load_scan(number: int) -> tuple[Any, Any]:
    """As `MedSeqFTLib.scene.sample_data.load_scan`; drawn on a thread, which also imports what that needs."""
    drawn = waited_for(lambda: _library().draw_scan(number))
    volume, segmentation = _library().place_scan(number, drawn, slicer.mrmlScene)
    return volume, segmentation


def _library() -> ModuleType:
    return importlib.import_module("MedSeqFTLib.scene.sample_data")
