"""The scans of the tutorial for Slicer's module Sample Data, which waits until they are in the scene."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import slicer
from slicer.i18n import tr as _

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.scene.panels.background import waited_for


def load_scan(number: int) -> tuple[Any, Any]:
    """As `MedSeqFTLib.scene.sample_data.load_scan`; drawn on a thread, which also imports what that needs."""
    try:
        drawn = waited_for(lambda: _library().draw_scan(number))
    except (ImportError, InputError) as error:
        missing = error if isinstance(error, ImportError) else error.__cause__
        if not isinstance(missing, ImportError):
            raise
        raise InputError(_advice(missing)) from error
    volume, segmentation = _library().place_scan(number, drawn, slicer.mrmlScene)
    return volume, segmentation


def _library() -> ModuleType:
    return importlib.import_module("MedSeqFTLib.scene.sample_data")


def _advice(missing: ImportError) -> str:
    """In Slicer, packages come by the button in Set-up; the library's own words are for a command line."""
    text = _("Slicer's Python has no package {name} yet: open the module MedSeqFT, and press {button} in Set-up.")
    return text.format(name=missing.name or missing, button=_("Install packages..."))
