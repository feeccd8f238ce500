"""The scans of the tutorial, for Slicer's module Sample Data: drawn on this computer, nothing is downloaded.

They are semi-synthetic (MedSeqFTLib.imaging.cohort): no patient data, no clinical evidence.
"""

from __future__ import annotations

from typing import Any

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
    scene = slicer.mrmlScene if scene is None else scene
    image, reference = make_case(load_anatomy(), KIND, (_SEED, 1, number))
    volume = add_volume(scene, image, scan_name(number))
    labels = [
        Label(value=value, name=name, color=distinct_color(value - 1))
        for value, name in enumerate(RECIPES[KIND].labels, start=1)
    ]
    return volume, add_segmentation(volume, reference, labels, f"{scan_name(number)} reference")
