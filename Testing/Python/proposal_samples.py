"""What a version would have proposed for a volume node, without a model. Needs Slicer's core, and no window."""

from __future__ import annotations

from typing import Any

import SimpleITK as sitk
from learning_samples import LABELS

from MedSeqFTLib.imaging.segmentations import write_seg_nrrd
from MedSeqFTLib.imaging.volumes import pixel_sha256
from MedSeqFTLib.scene.volumes import image_of
from MedSeqFTLib.workspace.files import sha256_of
from MedSeqFTLib.workspace.schema import Segmentation
from MedSeqFTLib.workspace.segmentations import store_segmentation
from MedSeqFTLib.workspace.workspace import Workspace


def add_proposal(workspace: Workspace, volume: Any, label_map: sitk.Image, name: str, **more: Any) -> Segmentation:
    """What M1 would have proposed for a volume."""
    with workspace.staging() as folder:
        file = folder / "p.seg.nrrd"
        write_seg_nrrd(label_map, LABELS, file)
        record = Segmentation(
            name=name,
            task="balls",
            version="M1",
            reading="per-task",
            source_image=f"{name}.nrrd",
            pixel_sha256=pixel_sha256(image_of(volume)),
            segmentation_sha256=sha256_of(file),
            size=label_map.GetSize(),
            spacing=label_map.GetSpacing(),
            label_voxels={},
            **more,
        )
        return store_segmentation(workspace, record, file)
