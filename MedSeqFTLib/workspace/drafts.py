"""Edits that nobody has accepted yet, kept when their scene is left: drafts/TASK/NAME in a workspace.

A draft is only ever made and removed whole, under a name of its own: that needs no lock, and waits for nobody.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from pydantic import Field

from MedSeqFTLib.workspace.damage import all_of
from MedSeqFTLib.workspace.files import (
    check_sha256,
    new_folder_atomically,
    read_json,
    sha256_of,
    visible_folders,
    write_json,
)
from MedSeqFTLib.workspace.names import checked_name
from MedSeqFTLib.workspace.schema import Document, Name, Vector3, now
from MedSeqFTLib.workspace.workspace import Workspace

DRAFT_FILE = "draft.json"
SEGMENTATION_FILE = "segmentation.seg.nrrd"
_LONGEST = 50  # of the readable part of a name


class Draft(Document):
    """segmentation.seg.nrrd, as Slicer writes it, beside this draft.json."""

    id: Name
    task: Name
    volume: str  # its name in the scene
    size: tuple[int, int, int]  # x, y, z voxels of the volume
    spacing: Vector3  # x, y, z in mm
    pixel_sha256: str | None = None  # of the volume; None: not known
    segmentation_sha256: str | None = None  # of the file; None: written by an older program
    marks: dict[str, str] = Field(default_factory=dict)  # attributes of the segmentation node
    saved: datetime = Field(default_factory=now)


def drafts(workspace: Workspace, task: str) -> list[Draft]:
    """All drafts of a task, oldest first.

    Raises WorkspaceError if the record of one is damaged, unless the list is only shown: see `damage`.
    """

    def read(folder: Path) -> Draft:
        return read_json(folder / DRAFT_FILE, Draft, task=task, id=folder.name)

    folders = visible_folders(workspace.folder / "drafts" / workspace.known_task(task))
    return sorted(all_of(partial(read, folder) for folder in folders), key=lambda draft: draft.saved)


def draft_path(workspace: Workspace, draft: Draft) -> Path:
    """The .seg.nrrd of a draft. Raises WorkspaceError if it is missing or damaged."""
    path = _folder(workspace, draft.task, draft.id) / SEGMENTATION_FILE
    if draft.segmentation_sha256 is not None:
        check_sha256(path, draft.segmentation_sha256)
    return path


def new_draft_id(name: str) -> str:
    """A name that no draft of any workspace has: a node may be taken along to another one."""
    return f"{name[:_LONGEST]}-{uuid.uuid4().hex[:8]}"


def store_draft(workspace: Workspace, draft: Draft, write: Callable[[Path], None]) -> None:
    """Keep a draft; `write` makes the file. Raises StorageError, or what `write` raises; nothing is visible then."""
    with new_folder_atomically(_folder(workspace, draft.task, draft.id)) as folder:
        write(folder / SEGMENTATION_FILE)
        written = {"segmentation_sha256": sha256_of(folder / SEGMENTATION_FILE)}
        write_json(folder / DRAFT_FILE, draft.model_copy(update=written))


def remove_draft(workspace: Workspace, task: str, draft_id: str) -> None:
    """It was accepted, or saved anew under another name."""
    shutil.rmtree(_folder(workspace, task, draft_id), ignore_errors=True)


def _folder(workspace: Workspace, task: str, draft_id: str) -> Path:
    return workspace.folder / "drafts" / checked_name(task, "task") / checked_name(draft_id, "draft")
