"""A task made of the segments that somebody has drawn or loaded."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.scene.segmentations import segments_of
from MedSeqFTLib.workspace.files import explain
from MedSeqFTLib.workspace.names import checked_name
from MedSeqFTLib.workspace.schema import Label, Modality, Percentile, Task, Window


def task_of(name: str, modality: str, segmentation: Any, description: str = "") -> Task:
    """A task with a label for each segment of a node: its name, color and terminology, and the values 1, 2, 3, ...

    Args:
        modality: "CT" or "MR"; decides how intensities are scaled.

    Raises:
        InputError: no segments, two of one name, or an unusable name or modality.
    """
    if modality not in list(Modality):
        raise InputError(f"Images of modality {modality!r} are not known here; take CT or MR.")
    checked_name(name, "task")
    try:
        labels = tuple(
            Label(value=value, name=segment.name.strip(), color=segment.color, code=segment.code)
            for value, segment in enumerate(segments_of(segmentation), start=1)
        )
        kind = Modality(modality)
        intensity = Window() if kind is Modality.CT else Percentile()
        return Task(name=name, description=description, modality=kind, labels=labels, intensity=intensity)
    except ValidationError as error:
        raise InputError(f"Task {name} cannot be used: {explain(error)}.") from error
