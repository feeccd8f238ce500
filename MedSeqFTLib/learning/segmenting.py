"""Segmenting a volume with a version of the workspace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from MedSeqFTLib.imaging.acceptance import count_voxels
from MedSeqFTLib.imaging.confidence import Confidence
from MedSeqFTLib.imaging.descriptor import describe_image
from MedSeqFTLib.imaging.geometry import Geometry
from MedSeqFTLib.imaging.names import stem_of
from MedSeqFTLib.imaging.segmentations import write_seg_nrrd
from MedSeqFTLib.imaging.volumes import pixel_sha256, read_volume
from MedSeqFTLib.learning.preflight import version_for
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.segmenter import Segmenter
from MedSeqFTLib.models.weights import chain_head, load_backbone, load_head, load_task_model
from MedSeqFTLib.workspace.anonymity import name_for, source_name
from MedSeqFTLib.workspace.files import sha256_of
from MedSeqFTLib.workspace.schema import ModelVersion, Reading, Segmentation
from MedSeqFTLib.workspace.segmentations import (
    SEGMENTATION_FILE,
    name_for_volume,
    name_of_volume,
    refuse_other_volume,
    store_segmentation,
)
from MedSeqFTLib.workspace.workspace import Workspace


def segment_volume(
    workspace: Workspace,
    task: str,
    image_path: Path,
    compute: Compute,
    *,
    version: str | None = None,
    reading: Reading = "per-task",
    name: str | None = None,
    rename: bool = False,
    overlap: float = 0.5,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Segmentation:
    """Segment a volume file or DICOM folder and keep the result in the workspace.

    Args:
        version: by default the task's current one.
        reading: "single-model" takes M_t, which segments all tasks, instead of the task's own F_t.
        name: under which the result is kept; by default the name of the image. An anonymous workspace takes only
            its own, and the same again for the same voxels.
        rename: take NAME-2, NAME-3, ... if another volume has that name, instead of refusing.
        progress: called with windows done and windows in all; it may raise to cancel.

    Raises:
        InputError: the image cannot be used, or no version can segment the task.
        WorkspaceError: a file of the version is damaged.
        StorageError: the result could not be written.
    """
    source = image_path.absolute()
    kept_name = name_for(workspace, name, stem_of(source), "segmentation")
    chosen = version_for(workspace, task, version, reading)
    image = read_volume(image_path)
    grid, plan, pixels = Geometry.of(image), chosen.plan(task), pixel_sha256(image)
    if workspace.info.anonymous:
        kept_name = name_of_volume(workspace, task, pixels) or kept_name
    elif rename:
        kept_name = name_for_volume(workspace, task, kept_name, pixels)
    draft = Segmentation(
        name=kept_name,
        task=task,
        version=chosen.id,
        reading=reading,
        source_image=source_name(workspace, source),
        pixel_sha256=pixels,
        segmentation_sha256="",
        size=grid.size,
        spacing=grid.spacing,
        label_voxels={},
        descriptor=describe_image(image),
    )
    refuse_other_volume(workspace, draft)
    confidence = Confidence()
    result = _segmenter(workspace, chosen, task, reading, compute, overlap).segment(image, progress, confidence)
    with workspace.staging() as folder:
        file = folder / SEGMENTATION_FILE
        write_seg_nrrd(result, plan.labels, file)
        found = {
            "segmentation_sha256": sha256_of(file),
            "label_voxels": count_voxels(result, plan.labels),
            "confidence": confidence.mean,
        }
        return store_segmentation(workspace, draft.model_copy(update=found), file)


def _segmenter(
    workspace: Workspace, version: ModelVersion, task: str, reading: Reading, compute: Compute, overlap: float
) -> Segmenter:
    plan = version.plan(task)
    if reading == "single-model":
        head = load_head(workspace, version, chain_head(task), plan)
        return Segmenter(load_backbone(workspace, version), head, plan, compute, overlap)
    return Segmenter(*load_task_model(workspace, version), plan, compute, overlap)
