"""Accepting an image and its corrected segmentation as a case of the workspace."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import SimpleITK as sitk

from MedSeqFTLib.imaging.correction import correction
from MedSeqFTLib.imaging.descriptor import describe_image
from MedSeqFTLib.imaging.geometry import Geometry
from MedSeqFTLib.imaging.likeness import Scan
from MedSeqFTLib.imaging.names import stem_of
from MedSeqFTLib.imaging.near_duplicates import compare
from MedSeqFTLib.imaging.segmentations import read_label_map, write_seg_nrrd
from MedSeqFTLib.imaging.thumbnails import Thumbnail, keep
from MedSeqFTLib.imaging.volumes import pixel_sha256, read_volume, write_volume
from MedSeqFTLib.workspace.anonymity import name_for, source_name
from MedSeqFTLib.workspace.cases import IMAGE_FILE, SEGMENTATION_FILE, accept_case, check_new_case
from MedSeqFTLib.workspace.files import sha256_of
from MedSeqFTLib.workspace.schema import Case, Correction, Label, Role, Task
from MedSeqFTLib.workspace.workspace import Workspace


@dataclass(frozen=True)
class Proposal:
    """What a model version proposed and a person then corrected."""

    version: str
    segmentation_path: Path | None = None
    confidence: float | None = None  # see MedSeqFTLib.imaging.confidence


def accept(
    workspace: Workspace,
    task: Task,
    image_path: Path,
    segmentation_path: Path,
    role: Role,
    *,
    case_id: str | None = None,
    by: str = "",
    proposal: Proposal | None = None,
    seconds: float | None = None,
    near_duplicate_reason: str = "",
) -> Case:
    """Read and check an image with its segmentation, and store them as a new case.

    Both files are read and checked as a whole before anything is written. Where segments overlap, the later label of
    the task wins; `overlap_voxels` of the returned case counts those voxels, so that a person can be told. Labels of
    the task that the segmentation does not speak of (no segment, or no voxel in a plain label map) are unknown in this
    case: they are absent from its `label_voxels` and from the stored segmentation.

    Args:
        image_path: a volume file, or a folder with one DICOM series.
        segmentation_path: a `.seg.nrrd` file, or a label map with the task's label values.
        case_id: name of the case; by default that of the image file. An anonymous workspace takes only its own.
        by: who accepts.
        seconds: spent on correcting.
        near_duplicate_reason: why it is another scan, although it looks like one that is stored with the other role.

    Raises:
        NearDuplicateError: a case of any task, of the other role, shows the same scan, and no reason was given.
        InputError: a file, the name or the pair cannot be used; nothing was changed.
        StorageError: a write failed; the workspace is as it was before.
    """
    source = Path(os.path.abspath(image_path))  # a DICOM folder may be given as "."
    name = name_for(workspace, case_id, stem_of(source), "case")
    image = read_volume(image_path)
    grid = Geometry.of(image)
    segmented = read_label_map(segmentation_path, task.labels, grid)
    labels = segmented.spoken_of(task.labels)
    case = Case(
        id=name,
        task=task.name,
        role=role,
        source_image=source_name(workspace, source),
        source_segmentation=source_name(workspace, segmentation_path),
        image_sha256="",  # known once the files are written
        segmentation_sha256="",
        pixel_sha256=pixel_sha256(image),
        size=grid.size,
        spacing=grid.spacing,
        label_voxels=count_voxels(segmented.image, labels),
        overlap_voxels=segmented.overlap_voxels,
        accepted_by=by,
        proposed_by=_known_version(workspace, proposal),
        **corrected(proposal, segmented.image, task.labels, labels),
        seconds_spent=seconds,
        descriptor=describe_image(image),
    )
    check_new_case(workspace, case)
    return _store(workspace, case, image, segmented.image, labels, near_duplicate_reason)


def _store(
    workspace: Workspace,
    case: Case,
    image: sitk.Image,
    label_map: sitk.Image,
    labels: tuple[Label, ...],
    near_duplicate_reason: str,
) -> Case:
    scan = Scan.of(image)
    with workspace.staging() as folder:
        image_file, segmentation_file = folder / IMAGE_FILE, folder / SEGMENTATION_FILE
        write_volume(image, image_file)
        write_seg_nrrd(label_map, labels, segmentation_file)
        hashes = {"image_sha256": sha256_of(image_file), "segmentation_sha256": sha256_of(segmentation_file)}
        with workspace.lock():
            compared = compare(workspace, case.model_copy(update=hashes), scan, near_duplicate_reason)
            reason = near_duplicate_reason if compared.near_duplicate else ""
            keep(workspace, case.task, Thumbnail.of(case, scan))
            return accept_case(workspace, compared, image_file, segmentation_file, reason)


def count_voxels(label_map: sitk.Image, labels: tuple[Label, ...]) -> dict[str, int]:
    """Voxels per name of these labels; 0 for a label that does not occur."""
    counts = np.bincount(sitk.GetArrayViewFromImage(label_map).ravel(), minlength=256)
    return {label.name: int(counts[label.value]) for label in labels}


def _known_version(workspace: Workspace, proposal: Proposal | None) -> str | None:
    return workspace.version(proposal.version).id if proposal else None


class Corrected(TypedDict):
    """The fields of a Case that tell what was changed in a proposal."""

    proposal_dice: float | None
    correction: Correction | None


def corrected(
    proposal: Proposal | None, accepted: sitk.Image, task_labels: tuple[Label, ...], labels: tuple[Label, ...]
) -> Corrected:
    """What was changed in a proposal, over the labels that the accepted segmentation speaks of."""
    if proposal is None or proposal.segmentation_path is None:
        return Corrected(proposal_dice=None, correction=None)
    grid = Geometry.of(accepted)  # a proposal may be empty: the model found nothing, and a person drew it all
    proposed = read_label_map(proposal.segmentation_path, task_labels, grid, may_be_empty=True).image
    found = correction(proposed, accepted, labels, proposal.confidence)
    scores = [score for score in found.dice.values() if score is not None]
    return Corrected(proposal_dice=sum(scores) / len(scores), correction=found)
