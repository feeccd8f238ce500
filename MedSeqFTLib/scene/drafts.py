"""Keeping edits that nobody has accepted yet, and bringing them back: no edit is lost with its scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from MedSeqFTLib.errors import StorageError
from MedSeqFTLib.scene.marks import CASE, DRAFT, EDITED, PIXELS, PROPOSAL, SECONDS, is_edited, is_on_disk, volume_of
from MedSeqFTLib.scene.placing import put_beside
from MedSeqFTLib.scene.volumes import kept_name, volume_grid
from MedSeqFTLib.workspace.drafts import Draft, draft_path, new_draft_id, remove_draft, store_draft
from MedSeqFTLib.workspace.workspace import Workspace

_KEPT = (PROPOSAL, CASE, SECONDS)


def save_draft(workspace: Workspace, task: str, node: Any) -> bool:
    """Keep the edits of a segmentation node in the workspace. False: there are none, or they are kept already.

    The node stays as it is. What was kept of it before is replaced.

    Raises:
        InputError, GeometryError: its volume cannot be used.
        StorageError: the disk is full, or cannot be written.
    """
    volume = volume_of(node)
    if volume is None or not is_edited(node) or is_on_disk(node):
        return False
    grid, before = volume_grid(volume), node.GetAttribute(DRAFT)
    draft = Draft(
        id=new_draft_id(kept_name(workspace, volume)),
        task=task,
        volume=kept_name(workspace, volume) if workspace.info.anonymous else volume.GetName(),
        size=grid.size,
        spacing=grid.spacing,
        pixel_sha256=volume.GetAttribute(PIXELS),
        marks={mark: node.GetAttribute(mark) for mark in _KEPT if node.GetAttribute(mark)},
    )
    store_draft(workspace, draft, lambda path: _write(node, path))
    node.SetAttribute(DRAFT, draft.id)
    node.SetAttribute(EDITED, "on disk")
    if before:
        remove_draft(workspace, task, before)
    return True


def load_draft(workspace: Workspace, draft: Draft, volume: Any) -> Any:
    """Bring kept edits back beside their volume, as a new segmentation node without a file. Returns the node.

    Raises:
        WorkspaceError: the file is damaged.
        StorageError: it cannot be read.
    """
    path = draft_path(workspace, draft)
    scene = volume.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} edited")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        scene.RemoveNode(node)
        raise StorageError(f"Cannot read {path}: the edit that was kept there is damaged.")
    node.CreateDefaultDisplayNodes()
    if volume.GetTransformNodeID():
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    put_beside(node, volume)
    for mark, value in {**draft.marks, DRAFT: draft.id, EDITED: "on disk"}.items():
        node.SetAttribute(mark, value)
    return node


def forget_draft(workspace: Workspace, task: str, node: Any) -> None:
    """What was kept of a node is accepted now."""
    if draft_id := node.GetAttribute(DRAFT):
        remove_draft(workspace, task, draft_id)
        node.SetAttribute(DRAFT, None)


def _write(node: Any, path: Path) -> None:
    """As Slicer saves it, all segments as they are, in the coordinates of the node."""
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    storage.SetUseCompression(False)
    if not storage.WriteData(node):
        raise StorageError(f"Cannot write {path}: is there room on the disk? The edit is still in the scene.")
