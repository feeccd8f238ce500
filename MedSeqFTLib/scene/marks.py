"""What nodes remember of a workspace, as attributes: saved with the scene, and without the name of a folder."""

from __future__ import annotations

from typing import Any

import slicer

#: Of a volume: the pixel_sha256 under which a worker knew it.
PIXELS = "MedSeqFT.Pixels"
#: Of a volume: the random name that an anonymous workspace knows it by.
NAME = "MedSeqFT.Name"
#: Of a segmentation: the segmentation_sha256 of the stored proposal that it began as.
PROPOSAL = "MedSeqFT.Proposal"
#: Of a segmentation: the segmentation_sha256 of the case that it was opened from, or stored as.
CASE = "MedSeqFT.Case"
#: Of a segmentation: it was changed since, and not accepted: "yes", or "on disk" if it is kept as a draft as it is, or
#: the name of the draft that is being written.
EDITED = "MedSeqFT.Edited"
#: Of a segmentation: the draft that it is kept as.
DRAFT = "MedSeqFT.Draft"
#: Of a segmentation: seconds that were spent on it and are not yet in a case.
SECONDS = "MedSeqFT.Seconds"


def is_edited(segmentation: Any) -> bool:
    """True if a segmentation has changes that were not accepted."""
    return segmentation.GetAttribute(EDITED) is not None


def is_on_disk(segmentation: Any) -> bool:
    """True if its changes are kept in the workspace, as they are."""
    return segmentation.GetAttribute(EDITED) == "on disk"


def set_edited(segmentation: Any, edited: bool) -> None:
    """Note that a segmentation was changed just now, or accepted."""
    segmentation.SetAttribute(EDITED, "yes" if edited else None)


def seconds_spent(segmentation: Any) -> float:
    """Seconds that were spent on it since it was last accepted."""
    return float(segmentation.GetAttribute(SECONDS) or 0.0)


def add_seconds(segmentation: Any, seconds: float) -> None:
    """Count time that was spent on it."""
    segmentation.SetAttribute(SECONDS, f"{seconds_spent(segmentation) + seconds:.3f}")


def volume_of(segmentation: Any) -> Any:
    """The volume that a segmentation was made for; None if it is not known or no longer in the scene."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return segmentation.GetNodeReference(role)


def segmentations_of(volume: Any) -> list[Any]:
    """The segmentation nodes that were made for a volume, the oldest first."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode", volume.GetScene())
    return [node for node in nodes if volume_of(node) is volume]
