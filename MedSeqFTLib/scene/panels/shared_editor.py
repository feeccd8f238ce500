"""The Segment Editor in our window. Its settings are shared with Slicer's own module: what is changed is put back."""

from __future__ import annotations

from typing import Any

import slicer

TAG = "SegmentEditor"  # under which Slicer's module keeps its node, so that both show the same segment


class SharedEditor:
    """Shows the chosen segmentation while the user is in our module."""

    def __init__(self, widget: Any) -> None:
        """Hide the choices that the panel has itself."""
        self._widget = widget
        self._found: tuple[int, int] | None = None
        widget.segmentationNodeSelectorVisible = False
        widget.sourceVolumeNodeSelectorVisible = False

    def enter(self) -> None:
        """Labels of a task do not overlap, and a mask that was left over elsewhere would hold back edits unseen."""
        node = editor_node()
        self._widget.setMRMLSegmentEditorNode(node)
        self._found = node.GetOverwriteMode(), node.GetMaskMode()
        node.SetOverwriteMode(node.OverwriteAllSegments)
        node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
        self._widget.installKeyboardShortcuts()
        self._widget.setupViewObservations()

    def show(self, volume: Any, segmentation: Any) -> None:
        """Edit this segmentation of this volume."""
        if self._found is None:
            return
        if self._widget.segmentationNode() is not segmentation:
            self._widget.setActiveEffectByName("")  # an effect belongs to the segmentation that it was begun on
            self._widget.setSegmentationNode(segmentation)
        if self._widget.sourceVolumeNode() is not volume:
            self._widget.setSourceVolumeNode(volume)
        self._widget.enabled = segmentation is not None

    def exit(self) -> None:
        """Put the modes back, and let go of the views, and of nodes that are about to go."""
        if self._found is None:
            return
        self._widget.setActiveEffectByName("")
        self._widget.uninstallKeyboardShortcuts()
        self._widget.removeViewObservations()
        node = editor_node()
        node.SetOverwriteMode(self._found[0])
        node.SetMaskMode(self._found[1])
        self._found = None
        if slicer.mrmlScene.IsClosing():
            self._widget.setSegmentationNode(None)
            self._widget.setSourceVolumeNode(None)


def editor_node() -> Any:
    """The node that Slicer's Segment Editor uses, made if there is none."""
    node = slicer.mrmlScene.GetSingletonNode(TAG, "vtkMRMLSegmentEditorNode")
    if node is None:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
        node.UnRegister(None)
        node.SetSingletonTag(TAG)
        node = slicer.mrmlScene.AddNode(node)
    return node
