"""Keeping edits that nobody has accepted yet, and bringing them back: no edit is lost with its scene."""

from __future__ import annotations

from typing import Any

from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.scene.copies import copied, write_with_slicer
from MedSeqFTLib.scene.marks import (
    CASE,
    DRAFT,
    EDITED,
    PIXELS,
    PROPOSAL,
    SECONDS,
    is_edited,
    is_on_disk,
    set_edited,
    volume_of,
)
from MedSeqFTLib.scene.observers import weak
from MedSeqFTLib.scene.placing import put_beside
from MedSeqFTLib.scene.restoring import Restorable, read_with_slicer, restorable
from MedSeqFTLib.scene.volumes import kept_name, volume_grid
from MedSeqFTLib.scene.waiting import Waiting, at_once
from MedSeqFTLib.workspace.drafts import Draft, draft_path, new_draft_id, remove_draft, store_draft
from MedSeqFTLib.workspace.workspace import Workspace

_KEPT = (PROPOSAL, CASE, SECONDS)


class Edit:
    """Edits of a segmentation node, on their way to the disk. They were copied: the node may change, or go."""

    def __init__(self, workspace: Workspace, draft: Draft, node: Any) -> None:
        """Copies now what `write` will write."""
        self._workspace, self._draft, self._node = workspace, draft, weak(node)
        self._before = node.GetAttribute(DRAFT)
        self._copied = copied(node)
        self.name = str(node.GetName())
        node.SetAttribute(EDITED, draft.id)

    @property
    def node(self) -> Any:
        """What was copied; None if it is in no scene any more."""
        node = self._node.Get()
        return node if node is not None and node.GetScene() is not None else None

    @property
    def needs_scene(self) -> bool:
        """True if `write` must be done on the main thread: only Slicer itself can save such a segmentation."""
        return self._copied is None

    @property
    def is_current(self) -> bool:
        """True if the node was not edited since."""
        return self.node is not None and self.node.GetAttribute(EDITED) == self._draft.id

    def write(self) -> None:
        """May be done on a thread. Raises StorageError: the disk is full, or cannot be written."""
        content = self._copied
        write = content.write if content else lambda path: write_with_slicer(self._node.Get(), path)
        store_draft(self._workspace, self._draft, write)

    def written(self) -> None:
        """It is on the disk: what was kept of the node before is replaced."""
        if self.is_current or (self.node is not None and self.needs_scene):  # Slicer, saving, merges layers of the node
            self.node.SetAttribute(EDITED, "on disk")
        if self.node is not None:
            self.node.SetAttribute(DRAFT, self._draft.id)
        if self._before:
            remove_draft(self._workspace, self._draft.task, self._before)

    def not_written(self) -> None:
        """The node counts as edited again."""
        if self.is_current:
            set_edited(self.node, True)


def take_edit(workspace: Workspace, task: str, node: Any) -> Edit | None:
    """Copy the edits of a segmentation node, to be written. None: there are none, or they are kept already.

    Raises InputError or GeometryError: its volume cannot be used.
    """
    volume = volume_of(node)
    if volume is None or not is_edited(node) or is_on_disk(node):
        return None
    grid = volume_grid(volume)
    draft = Draft(
        id=new_draft_id(kept_name(workspace, volume)),
        task=task,
        volume=kept_name(workspace, volume) if workspace.info.anonymous else volume.GetName(),
        size=grid.size,
        spacing=grid.spacing,
        pixel_sha256=volume.GetAttribute(PIXELS),
        marks={mark: node.GetAttribute(mark) for mark in _KEPT if node.GetAttribute(mark)},
    )
    return Edit(workspace, draft, node)


def save_draft(workspace: Workspace, task: str, node: Any, wait: Waiting = at_once) -> bool:
    """Keep the edits of a segmentation node in the workspace. False: there are none, or they are kept already.

    The node stays as it is. What was kept of it before is replaced.

    Raises:
        InputError, GeometryError: its volume cannot be used.
        StorageError: the disk is full, or cannot be written.
    """
    edit = take_edit(workspace, task, node)
    if edit is None:
        return False
    try:
        (at_once if edit.needs_scene else wait)(edit.write)
    except BaseException:
        edit.not_written()
        raise
    edit.written()
    return True


def read_draft(workspace: Workspace, draft: Draft) -> Restorable | None:
    """The part of `load_draft` that takes long and touches no scene: it may be done on a thread.

    None: only Slicer itself can read it, if anybody can.
    """
    try:
        return restorable(draft_path(workspace, draft))
    except MedSeqFTError:
        return None


def load_draft(workspace: Workspace, draft: Draft, volume: Any, stored: Restorable | None = None) -> Any:
    """Bring kept edits back beside their volume, as a new segmentation node without a file. Returns the node.

    Args:
        stored: what `read_draft` has read, if that was done before.

    Raises:
        WorkspaceError: the file is damaged.
        StorageError: it cannot be read.
    """
    scene = volume.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} edited")
    try:
        if stored is not None:
            stored.fill(node)
        else:
            read_with_slicer(node, draft_path(workspace, draft))
    except MedSeqFTError:
        scene.RemoveNode(node)
        raise
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
