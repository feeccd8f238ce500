"""Accepting cases from nodes, opening them again, and correcting them once more."""

from __future__ import annotations

from typing import Any, NamedTuple

import SimpleITK as sitk

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.geometry import Geometry
from MedSeqFTLib.imaging.segmentations import read_label_map, write_seg_nrrd
from MedSeqFTLib.imaging.volumes import read_volume, write_image
from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.following import Following
from MedSeqFTLib.jobs.job import JobFolder
from MedSeqFTLib.jobs.starting import free_case_id, start_acceptance, taken_case_ids
from MedSeqFTLib.scene.drafts import forget_draft
from MedSeqFTLib.scene.marks import CASE, PIXELS, PROPOSAL, SECONDS, seconds_spent, set_edited
from MedSeqFTLib.scene.observers import weak
from MedSeqFTLib.scene.placing import NewLabels, add_segmentation, new_labels
from MedSeqFTLib.scene.program import worker_python
from MedSeqFTLib.scene.segmentations import Drawn, Findings, drawn_on, findings, label_map_of, refuse_outside
from MedSeqFTLib.scene.volumes import NewVolume, add_volume, copying, descriptor_of, kept_name, new_volume, volume_grid
from MedSeqFTLib.scene.waiting import Waiting, at_once
from MedSeqFTLib.workspace.names import checked_name
from MedSeqFTLib.workspace.schema import Case, Label, Role
from MedSeqFTLib.workspace.segmentations import segmentation_of, segmentations
from MedSeqFTLib.workspace.workspace import Workspace


def inspect_case(workspace: Workspace, task: str, volume: Any, segmentation: Any) -> Findings:
    """What would be accepted, and what prevents it. Nothing is written.

    Raises:
        InputError: a node that cannot be read, or a segment whose terminology and name disagree.
        GeometryError: the segmentation does not lie on the volume's voxels.
    """
    grid = volume_grid(volume)
    return findings(drawn_on(segmentation, grid), workspace.task(task).labels, grid)


class StoringJob(Following):
    """A case that is being stored. Its nodes may be edited or removed meanwhile."""

    def __init__(self, folder: JobFolder, volume: Any = None, segmentation: Any = None) -> None:
        """Of these nodes, if they are in the scene."""
        super().__init__(folder)
        self._volume, self._segmentation = weak(volume), weak(segmentation)

    @property
    def name(self) -> str:
        """Of the case."""
        return str(self.folder.job.settings["case_id"])

    def is_of(self, volume: Any) -> bool:
        """True if this volume is being stored."""
        return volume is not None and self._volume.Get() is volume

    def mark(self) -> Case:
        """Let the nodes remember which case they are. Raises JobError unless the case is stored."""
        case = self.result(Case)
        if (volume := self._volume.Get()) is not None:
            volume.SetAttribute(PIXELS, case.pixel_sha256)
        if (segmentation := self._segmentation.Get()) is not None:
            segmentation.SetAttribute(CASE, case.segmentation_sha256)
        return case

    def discard(self) -> None:
        """Give it up. What is still in the scene counts as edited again. Raises JobError while it is being stored."""
        control.discard(self.folder)
        if (segmentation := self._segmentation.Get()) is not None:
            set_edited(segmentation, True)


def accept_case(
    workspace: Workspace,
    task: str,
    volume: Any,
    segmentation: Any,
    role: str,
    case_id: str | None = None,
    by: str = "",
    seconds: float | None = None,
    near_duplicate_reason: str = "",
    wait: Waiting = at_once,
) -> StoringJob:
    """Store a volume with its corrected segmentation as a case, in the background.

    What is checked quickly is checked here. When this returns, both are on the disk as they are now, and may be edited
    or removed; the worker compares, compresses and files them. Should it be killed, `resume` goes on.

    Args:
        role: "train" or "validation"; it never changes.
        case_id: by default the name under which the volume was segmented, else that of the volume.
        by: who accepts; by default the login name.
        seconds: spent on correcting; by default what the panel counted, if it did.
        near_duplicate_reason: why it is another scan than the stored one of the other role that it looks like.
        wait: for what touches no scene.

    Raises:
        InputError: a node, the role or the name cannot be used.
        GeometryError: the segmentation does not lie on the volume's voxels.
        StorageError: the disk is full.
    """
    if role not in list(Role):
        raise InputError(f"A case cannot have the role {role!r}; take train or validation.")
    volume_grid(volume)
    began_as = segmentation.GetAttribute(PROPOSAL) if segmentation else None
    own, pixels = "" if case_id else kept_name(workspace, volume), volume.GetAttribute(PIXELS)

    def settings() -> dict[str, object]:
        proposal = segmentation_of(workspace, task, began_as)
        scan = proposal.pixel_sha256 if proposal else pixels
        return {
            "role": Role(role),
            "case_id": checked_name(case_id, "case") if case_id else _free_name(workspace, task, own, scan),
            "by": by,
            "proposal": proposal.segmentation_sha256 if proposal else None,
            "seconds": seconds,
            "near_duplicate_reason": near_duplicate_reason,
        }

    return _store(workspace, task, volume, segmentation, wait(settings), wait)


def revise_case(
    workspace: Workspace,
    task: str,
    case_id: str,
    volume: Any,
    segmentation: Any,
    by: str = "",
    seconds: float | None = None,
    wait: Waiting = at_once,
) -> StoringJob:
    """Store a corrected segmentation of a case, in the background. The earlier one is kept; image and role stay.

    Arguments and errors as of `accept_case`; the volume must be that of the case.
    """
    case = workspace.case(task, case_id)
    settings: dict[str, object] = {"role": case.role, "case_id": case.id, "by": by, "seconds": seconds, "revises": True}
    return _store(workspace, task, volume, segmentation, settings, wait)


def case_of(workspace: Workspace, task: str, volume: Any) -> Case | None:
    """The stored case that a volume is known to be; None if it is none, or if its voxels were changed."""
    pixels = volume.GetAttribute(PIXELS) if volume is not None else None
    cases = workspace.cases(task) if pixels else []
    case = next((case for case in cases if case.pixel_sha256 == pixels), None)
    return None if case is None or case.descriptor not in (None, descriptor_of(volume)) else case


def _store(
    workspace: Workspace, task: str, volume: Any, segmentation: Any, settings: dict[str, object], wait: Waiting
) -> StoringJob:
    copy, drawn = copying(volume), drawn_on(segmentation, volume_grid(volume))
    if settings["seconds"] is None:
        settings["seconds"] = seconds_spent(segmentation) or None
    job = wait(lambda: _begin_storing(workspace, task, copy(), drawn, settings))
    set_edited(segmentation, False)
    segmentation.SetAttribute(SECONDS, None)
    forget_draft(workspace, task, segmentation)
    return StoringJob(job, volume, segmentation)


def _begin_storing(
    workspace: Workspace, task: str, image: sitk.Image, drawn: Drawn, settings: dict[str, object]
) -> JobFolder:
    """Both are on the disk when this returns."""
    labels = workspace.task(task).labels
    found = label_map_of(drawn, labels)
    refuse_outside(drawn, Geometry.of(image))
    files = f"{settings['case_id']}.nrrd", f"{settings['case_id']}.seg.nrrd"
    with workspace.staging() as folder:
        write_image(image, folder / files[0], quick=True)
        write_seg_nrrd(found.image, found.spoken_of(labels), folder / files[1], quick=True)
        return start_acceptance(workspace, task, folder, *files, settings, python=worker_python())


def new_segmentation(workspace: Workspace, task: str, volume: Any) -> Any:
    """An empty segmentation of a volume, with a segment for each label of a task. Raises as `volume_grid`."""
    return add_segmentation(volume, None, workspace.task(task).labels, f"{volume.GetName()} drawn")


def open_case(workspace: Workspace, task: str, case_id: str, scene: Any) -> tuple[Any, Any]:
    """Bring a stored case into a scene, as a new volume and a new segmentation node without files.

    Raises:
        InputError: there is no such case.
        WorkspaceError: a file of the case is damaged.
    """
    return place_case(read_case(workspace, task, case_id), scene)


class StoredCase(NamedTuple):
    """A case with its files in memory."""

    case: Case
    image: NewVolume
    label_map: NewLabels
    labels: tuple[Label, ...]  # that it speaks of


def read_case(workspace: Workspace, task: str, case_id: str) -> StoredCase:
    """The part of `open_case` that takes long and touches no scene: it may be done on a thread. Raises as that."""
    case = workspace.case(task, case_id)
    workspace.verify_case(case)
    labels = workspace.task(task).labels
    image = read_volume(workspace.image_path(case))
    stored = read_label_map(workspace.segmentation_path(case), labels, Geometry.of(image))
    return StoredCase(case, new_volume(image), new_labels(stored.image), stored.spoken_of(labels))


def place_case(stored: StoredCase, scene: Any) -> tuple[Any, Any]:
    """The other part. Returns the volume and the segmentation."""
    case = stored.case
    volume = add_volume(scene, stored.image, case.id)
    segmentation = add_segmentation(volume, stored.label_map, stored.labels, f"{case.id} accepted")
    volume.SetAttribute(PIXELS, case.pixel_sha256)
    segmentation.SetAttribute(CASE, case.segmentation_sha256)
    return volume, segmentation


def _free_name(workspace: Workspace, task: str, own: str, pixels: str | None) -> str:
    """The name under which the volume was segmented, if that is known and free; else its `own`, or NAME-2 and so on."""
    proposed = next((r.name for r in segmentations(workspace, task) if r.pixel_sha256 == pixels), None)
    if proposed and proposed.casefold() not in {name.casefold() for name in taken_case_ids(workspace, task)}:
        return proposed
    return free_case_id(workspace, task, own)
