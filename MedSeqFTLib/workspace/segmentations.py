"""What model versions proposed, uncorrected: segmentations/TASK/NAME/VERSION in a workspace."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.files import check_sha256, new_folder_atomically, read_json, write_json
from MedSeqFTLib.workspace.names import checked_name, free_name
from MedSeqFTLib.workspace.schema import Segmentation
from MedSeqFTLib.workspace.versions import version_number
from MedSeqFTLib.workspace.workspace import Workspace

SEGMENTATION_FILE = "segmentation.seg.nrrd"
RECORD_FILE = "segmentation.json"


def folder_of(workspace: Workspace, record: Segmentation) -> Path:
    """Where a segmentation lies."""
    folder = "single-" + record.version if record.reading == "single-model" else record.version
    return _folder_of_name(workspace, record.task, record.name) / folder


def _folder_of_name(workspace: Workspace, task: str, name: str) -> Path:
    parts = checked_name(task, "task"), checked_name(name, "segmentation")
    return workspace.folder.joinpath("segmentations", *parts)


def segmentation_path(workspace: Workspace, record: Segmentation) -> Path:
    """The .seg.nrrd of a segmentation."""
    return folder_of(workspace, record) / SEGMENTATION_FILE


def store_segmentation(workspace: Workspace, record: Segmentation, file: Path) -> Segmentation:
    """Take a finished .seg.nrrd into the workspace. What the same version made of the same volume stays as it is.

    Raises:
        InputError: another volume of this name was segmented before.
        StorageError: a write failed; nothing of it is visible.
    """
    target = folder_of(workspace, record)
    with workspace.lock():
        refuse_other_volume(workspace, record)
        if target.exists():
            return read_json(target / RECORD_FILE, Segmentation)
        with new_folder_atomically(target, target.parents[1]) as folder:  # one that clear_leftovers looks into
            (folder / SEGMENTATION_FILE).write_bytes(file.read_bytes())
            write_json(folder / RECORD_FILE, record)
    return record


def refuse_other_volume(workspace: Workspace, record: Segmentation) -> None:
    """Raise InputError if a volume with other voxels has this name."""
    for other in segmentations(workspace, record.task, record.name):
        if other.pixel_sha256 != record.pixel_sha256:
            raise InputError(
                f"Another volume, {other.source_image or other.name}, was segmented for task {record.task} under the "
                f"name {record.name}; choose another one with --name."
            )


def name_of_volume(workspace: Workspace, task: str, pixel_sha256: str) -> str | None:
    """Under which a volume with these voxels was segmented for a task; None if it was not."""
    return next((r.name for r in segmentations(workspace, task) if r.pixel_sha256 == pixel_sha256), None)


def name_for_volume(workspace: Workspace, task: str, name: str, pixel_sha256: str) -> str:
    """The first of NAME, NAME-2, NAME-3, ... that no volume with other voxels has."""
    others = {r.name for r in segmentations(workspace, task) if r.pixel_sha256 != pixel_sha256}
    return free_name(name, others)


def segmentations(workspace: Workspace, task: str, name: str | None = None) -> list[Segmentation]:
    """All segmentations of a task or of one of its volumes, oldest first.

    Raises WorkspaceError if the record of one is damaged, unless the list is only shown: see `damage`.
    """
    base, depth = workspace.folder / "segmentations" / workspace.known_task(task), 2
    if name is not None:
        base, depth = _folder_of_name(workspace, task, name), 1

    def expected(folder: str) -> dict[str, str]:
        *above, version = folder.split("/")
        reading = "single-model" if version.startswith("single-") else "per-task"
        volume = above[0] if above else base.name
        return {"task": task, "name": volume, "version": version.removeprefix("single-"), "reading": reading}

    records = workspace.remembered.listed(base, depth, RECORD_FILE, Segmentation, expected)
    if name is not None:
        return sorted(records, key=_age)
    return list(workspace.remembered.derived(("segmentations", task), lambda: sorted(records, key=_age)))


def _age(record: Segmentation) -> tuple[datetime, int]:
    return record.created, version_number(record.version)


def segmentation_of(workspace: Workspace, task: str, sha256: str | None) -> Segmentation | None:
    """The oldest segmentation of a task whose file has this hash; None if there is none, or no hash."""
    return next((r for r in segmentations(workspace, task) if r.segmentation_sha256 == sha256), None)


def verify_segmentation(workspace: Workspace, record: Segmentation) -> Path:
    """The checked .seg.nrrd. Raises WorkspaceError if it is missing or damaged."""
    path = segmentation_path(workspace, record)
    check_sha256(path, record.segmentation_sha256)
    return path
