"""Accepting cases from nodes, and opening them again."""

from __future__ import annotations

from typing import Any

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.geometry import Geometry
from MedSeqFTLib.imaging.segmentations import read_label_map, write_seg_nrrd
from MedSeqFTLib.imaging.volumes import read_volume, write_image
from MedSeqFTLib.jobs.job import JobFolder
from MedSeqFTLib.jobs.starting import free_case_id, start_acceptance, taken_case_ids
from MedSeqFTLib.scene.placing import add_segmentation
from MedSeqFTLib.scene.program import worker_python
from MedSeqFTLib.scene.proposals import proposal_of
from MedSeqFTLib.scene.segmentations import Findings, drawn_on, findings, label_map_of, refuse_outside
from MedSeqFTLib.scene.volumes import add_volume, image_of, volume_grid
from MedSeqFTLib.workspace.names import checked_name, name_from
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.workspace import Workspace


def inspect_case(workspace: Workspace, task: str, volume: Any, segmentation: Any) -> Findings:
    """What would be accepted, and what prevents it. Nothing is written.

    Raises:
        InputError: a node that cannot be read, or a segment whose terminology and name disagree.
        GeometryError: the segmentation does not lie on the volume's voxels.
    """
    grid = volume_grid(volume)
    return findings(drawn_on(segmentation, grid), workspace.task(task).labels, grid)


def accept_case(
    workspace: Workspace, task: str, volume: Any, segmentation: Any, role: str, case_id: str | None = None, by: str = ""
) -> JobFolder:
    """Store a volume with its corrected segmentation as a case, in the background.

    What is checked quickly is checked here. When this returns, both are on the disk as they are now, and may be edited
    or removed; the worker compares, compresses and files them. Should it be killed, `resume` goes on.

    Args:
        role: "train" or "validation"; it never changes.
        case_id: by default the name under which the volume was segmented, else that of the volume.
        by: who accepts; by default the login name.

    Raises:
        InputError: a node, the role or the name cannot be used.
        GeometryError: the segmentation does not lie on the volume's voxels.
        StorageError: the disk is full.
    """
    if role not in list(Role):
        raise InputError(f"A case cannot have the role {role!r}; take train or validation.")
    labels = workspace.task(task).labels
    image = image_of(volume)
    grid = Geometry.of(image)
    drawn = drawn_on(segmentation, grid)
    found = label_map_of(drawn, labels)
    refuse_outside(drawn, grid)
    proposal = proposal_of(workspace, task, segmentation)
    name = (
        checked_name(case_id, "case")
        if case_id
        else _free_name(workspace, task, volume, proposal.name if proposal else None)
    )
    files = f"{name}.nrrd", f"{name}.seg.nrrd"
    with workspace.staging() as folder:
        write_image(image, folder / files[0], quick=True)
        write_seg_nrrd(found.image, found.spoken_of(labels), folder / files[1], quick=True)
        return start_acceptance(
            workspace,
            task,
            folder,
            *files,
            Role(role),
            name,
            by=by,
            proposal=proposal.segmentation_sha256 if proposal else None,
            python=worker_python(),
        )


def open_case(workspace: Workspace, task: str, case_id: str, scene: Any) -> tuple[Any, Any]:
    """Bring a stored case into a scene, as a new volume and a new segmentation node without files.

    Raises:
        InputError: there is no such case.
        WorkspaceError: a file of the case is damaged.
    """
    case = workspace.case(task, case_id)
    workspace.verify_case(case)
    labels = workspace.task(task).labels
    image = read_volume(workspace.image_path(case))
    stored = read_label_map(workspace.segmentation_path(case), labels, Geometry.of(image))
    volume = add_volume(scene, image, case.id)
    return volume, add_segmentation(volume, stored.image, stored.spoken_of(labels), f"{case.id} accepted")


def usable_name(volume: Any) -> str:
    """The name of a volume as the workspace can keep it; "volume" if nothing of it can be a folder's name."""
    try:
        return name_from(str(volume.GetName() or ""), "volume")
    except InputError:  # a name without a Latin letter, for instance
        return "volume"


def _free_name(workspace: Workspace, task: str, volume: Any, proposed: str | None) -> str:
    if proposed and proposed.casefold() not in {name.casefold() for name in taken_case_ids(workspace, task)}:
        return proposed
    return free_case_id(workspace, task, usable_name(volume))
