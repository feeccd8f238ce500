"""Segmenting a volume of the scene in the background, and bringing the result beside it."""

from __future__ import annotations

from typing import Any, NamedTuple

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.segmentations import read_label_map
from MedSeqFTLib.jobs.following import Following
from MedSeqFTLib.jobs.job import JobFolder
from MedSeqFTLib.scene.marks import PIXELS, PROPOSAL
from MedSeqFTLib.scene.observers import weak
from MedSeqFTLib.scene.placing import NewLabels, add_segmentation, new_labels
from MedSeqFTLib.workspace.schema import Label, Segmentation
from MedSeqFTLib.workspace.segmentations import verify_segmentation
from MedSeqFTLib.workspace.workspace import Workspace


class SegmentingJob(Following):
    """A volume that is being segmented. The volume may be removed from the scene meanwhile."""

    def __init__(self, folder: JobFolder, workspace: Workspace, volume: Any) -> None:
        """Of a volume; None if it is not in the scene."""
        super().__init__(folder)
        self._workspace = workspace
        self._volume = weak(volume)
        self._name = str(volume.GetName() if volume is not None else folder.job.settings.get("name"))

    @property
    def record(self) -> Segmentation:
        """What was stored. Raises JobError unless the job is finished."""
        return self.result(Segmentation)

    def read(self) -> StoredProposal:
        """The part of `load` that takes long and touches no scene: it may be done on a thread.

        Raises:
            JobError: the job is not finished.
            WorkspaceError: the stored file is damaged.
        """
        return read_proposal(self._workspace, self.record)

    def load(self, stored: StoredProposal | None = None) -> Any:
        """Put the result beside the volume, as a new segmentation node. Returns the node.

        Args:
            stored: what `read` has returned, if it was called.

        Raises:
            JobError: the job is not finished.
            InputError: the volume is no longer in the scene; the result stays in the workspace.
            GeometryError: the volume was moved meanwhile.
        """
        record = self.record
        volume = self._volume.Get()
        if volume is None or volume.GetScene() is None:
            raise InputError(
                f"Volume {self._name!r} is no longer in the scene; its segmentation {record.name} is kept in the "
                "workspace: load the volume again, then the segmentation."
            )
        node = place_proposal(stored or self.read(), volume)
        volume.SetAttribute(PIXELS, record.pixel_sha256)
        return node


class StoredProposal(NamedTuple):
    """A stored segmentation with its file in memory."""

    record: Segmentation
    label_map: NewLabels
    labels: tuple[Label, ...]  # that it speaks of


def read_proposal(workspace: Workspace, record: Segmentation) -> StoredProposal:
    """The part of `add_proposal` that takes long and touches no scene. Raises WorkspaceError: the file is damaged."""
    labels = workspace.task(record.task).labels
    stored = read_label_map(verify_segmentation(workspace, record), labels, may_be_empty=True)
    return StoredProposal(record, new_labels(stored.image), stored.spoken_of(labels))


def place_proposal(stored: StoredProposal, volume: Any) -> Any:
    """The other part. Returns the node."""
    record = stored.record
    node = add_segmentation(volume, stored.label_map, stored.labels, f"{volume.GetName()} by {record.version}")
    node.SetAttribute(PROPOSAL, record.segmentation_sha256)
    return node


def add_proposal(workspace: Workspace, record: Segmentation, volume: Any) -> Any:
    """Put a stored segmentation beside a volume, as a new segmentation node, which remembers where it comes from.

    Raises:
        InputError: the volume cannot be used.
        GeometryError: the volume is another one, or was moved since it was segmented.
        WorkspaceError: the stored file is damaged.
    """
    return place_proposal(read_proposal(workspace, record), volume)
