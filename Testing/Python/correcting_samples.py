"""For the tests of the panels that segment, correct and list: a small trained workspace, and the window on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import workspace_samples as samples
from learning_samples import LABELS, ball_scan, ball_task
from slicer_program import Window
from slicer_samples import slicer

from MedSeqFTLib.imaging.segmentations import write_seg_nrrd
from MedSeqFTLib.imaging.volumes import pixel_sha256
from MedSeqFTLib.scene.placing import add_segmentation
from MedSeqFTLib.scene.volumes import add_volume, image_of
from MedSeqFTLib.workspace.files import sha256_of
from MedSeqFTLib.workspace.schema import Segmentation
from MedSeqFTLib.workspace.segmentations import store_segmentation
from MedSeqFTLib.workspace.workspace import Workspace


def untrained_workspace(folder: Path) -> Workspace:
    """A workspace with the task "balls", no case, and two versions whose files are no weights."""
    workspace = Workspace.create(folder / "workspace")
    workspace.add_task(ball_task())
    for name, parent, task in (("M0", None, None), ("M1", "M0", "balls")):
        files = samples.weights_folder(folder / name)
        workspace.publish(samples.a_version(name, files, task, parent), files)
    return workspace


def add_proposal(workspace: Workspace, volume: Any, label_map: sitk.Image, name: str, **more: Any) -> Segmentation:
    """What M1 would have proposed for a volume."""
    with workspace.staging() as folder:
        file = folder / "p.seg.nrrd"
        write_seg_nrrd(label_map, LABELS, file)
        record = Segmentation(
            name=name,
            task="balls",
            version="M1",
            reading="per-task",
            source_image=f"{name}.nrrd",
            pixel_sha256=pixel_sha256(image_of(volume)),
            segmentation_sha256=sha256_of(file),
            size=label_map.GetSize(),
            spacing=label_map.GetSpacing(),
            label_voxels={},
            **more,
        )
        return store_segmentation(workspace, record, file)


def open_workspace(window: Window, workspace: Workspace) -> Any:
    """As the panels Set-up and Task do. Returns the session."""
    session = window.widget.session
    session.open(workspace.folder)
    session.parameters.task = "balls"
    window.frame.resize(460, 1500)
    window.wait_until(lambda: True)
    return session


def add_scan(seed: int = 7, name: str = "scan") -> Any:
    """A volume node."""
    return add_volume(slicer.mrmlScene, ball_scan(seed)[0], name)


def add_drawn(volume: Any, seed: int = 7) -> Any:
    """The right segmentation of `add_scan`, as a node."""
    return add_segmentation(volume, ball_scan(seed)[1], LABELS, f"{volume.GetName()} drawn")


def edit(node: Any, volume: Any, planes: int = 10, label: int = 1) -> None:
    """Erase a label in the first planes, as the Segment Editor would."""
    identifier = node.GetSegmentation().GetNthSegmentID(label)
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume)
    voxels[:planes] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, identifier, volume)


def fill(node: Any, volume: Any, label: int = 0) -> None:
    """Draw a box."""
    identifier = node.GetSegmentation().GetNthSegmentID(label)
    drawn = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    drawn[8:14, 8:14, 8:12] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, identifier, volume)
