"""The scans of the tutorial, for Slicer's module Sample Data: drawn on this computer, nothing is downloaded.

They are semi-synthetic (MedSeqFTLib.imaging.cohort): no patient data, no clinical evidence.
"""

from __future__ import annotations

from typing import Any

import SimpleITK as sitk
import slicer

from MedSeqFTLib.imaging.anatomy import load_anatomy
from MedSeqFTLib.imaging.cohort import RECIPES, Kind, make_case
from MedSeqFTLib.scene.placing import add_segmentation
from MedSeqFTLib.scene.volumes import add_volume
from MedSeqFTLib.workspace.labels import distinct_color
from MedSeqFTLib.workspace.schema import Label

KIND: Kind = "t1-tissue"
_SEED = 20


def scan_name(number: int) -> str:
    """What the volume of scan 1, 2, ... is called."""
    return f"TutorialScan{number}"


def load_scan(number: int, scene: Any = None) -> tuple[Any, Any]:
    """Draw a scan and its reference segmentation, and add them to a scene as new nodes; the same ones every time.

    Takes a few seconds the first time. Raises InputError if nilearn is missing.
    """
    return place_scan(number, draw_scan(number), slicer.mrmlScene if scene is None else scene)


def draw_scan(number: int) -> tuple[sitk.Image, sitk.Image]:
    """The part of `load_scan` that takes long and touches no scene: it may be done on a thread. Raises as that."""
    return make_case(load_anatomy(), KIND, (_SEED, 1, number))


def place_scan(number: int, drawn: tuple[sitk.Image, sitk.Image], scene: Any) -> tuple[Any, Any]:
    """The other part. Returns the volume and the segmentation."""
    image, reference = drawn
    volume = add_volume(scene, image, scan_name(number))
    labels = [
        Label(value=value, name=name, color=distinct_color(value - 1))
        for value, name in enumerate(RECIPES[KIND].labels, start=1)
    ]
    return volume, add_segmentation(volume, reference, labels, f"{scan_name(number)} reference")
