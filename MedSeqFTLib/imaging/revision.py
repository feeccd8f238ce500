"""Correcting a stored case again."""

from __future__ import annotations

from pathlib import Path

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.acceptance import Proposal, corrected, count_voxels
from MedSeqFTLib.imaging.geometry import Geometry, difference
from MedSeqFTLib.imaging.segmentations import read_label_map, write_seg_nrrd
from MedSeqFTLib.imaging.volumes import pixel_sha256, read_volume
from MedSeqFTLib.workspace.anonymity import source_name
from MedSeqFTLib.workspace.cases import SEGMENTATION_FILE, revise_case
from MedSeqFTLib.workspace.files import sha256_of
from MedSeqFTLib.workspace.schema import Case, Task, now
from MedSeqFTLib.workspace.segmentations import segmentation_path, segmentations
from MedSeqFTLib.workspace.workspace import Workspace


def revise(
    workspace: Workspace,
    task: Task,
    case_id: str,
    image_path: Path,
    segmentation_path: Path,
    *,
    by: str = "",
    seconds: float | None = None,
) -> Case:
    """Store a corrected segmentation of a case; the earlier one is kept as a revision. Its image and role stay.

    Args:
        image_path: the image that was looked at: it must be that of the case.

    Raises:
        InputError: there is no such case, the image is another one, or the segmentation cannot be used.
        StorageError: a write failed; the case is as it was before.
    """
    case = workspace.case(task.name, case_id)
    image = read_volume(image_path)
    grid = Geometry.of(image)
    _refuse_other_image(workspace, case, pixel_sha256(image), grid)
    segmented = read_label_map(segmentation_path, task.labels, grid)
    labels = segmented.spoken_of(task.labels)
    with workspace.staging() as folder:
        file = folder / SEGMENTATION_FILE
        write_seg_nrrd(segmented.image, labels, file)
        changes = {
            "source_segmentation": source_name(workspace, segmentation_path),
            "segmentation_sha256": sha256_of(file),
            "label_voxels": count_voxels(segmented.image, labels),
            "overlap_voxels": segmented.overlap_voxels,
            "accepted": now(),
            "accepted_by": by,
            **corrected(_proposal(workspace, case, grid), segmented.image, task.labels, labels),
            "seconds_spent": seconds,
        }
        return revise_case(workspace, case.model_copy(update=changes), file)


def _refuse_other_image(workspace: Workspace, case: Case, pixels: str, grid: Geometry) -> None:
    stored = Geometry.of_file(workspace.image_path(case))
    if pixels != case.pixel_sha256 or difference(grid, stored) is not None:
        raise InputError(
            f"The volume is not that of case {case.id}: its voxels or its place differ. Open the case from the "
            "worklist and correct that, or accept this volume as a case of its own."
        )


def _proposal(workspace: Workspace, case: Case, grid: Geometry) -> Proposal | None:
    """What a version proposed for the case, if it is still there and lies on the same grid."""
    for record in segmentations(workspace, case.task):
        if (record.version, record.pixel_sha256) == (case.proposed_by, case.pixel_sha256):
            path = segmentation_path(workspace, record)
            fits = difference(Geometry.of_file(path), grid) is None
            return Proposal(record.version, path if fits else None, record.confidence)
    return None
