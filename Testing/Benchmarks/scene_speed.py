"""What a person in Slicer waits for: accepting and loading a large case, and looking at a job. Needs slicer-core.

Run: python Testing/Benchmarks/scene_speed.py [--size 512 512 300]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import SimpleITK as sitk
import slicer
from common import smooth_scan

from MedSeqFTLib.imaging.segmentations import write_seg_nrrd
from MedSeqFTLib.jobs.following import Following
from MedSeqFTLib.scene import cases
from MedSeqFTLib.scene.logic import SceneLogic
from MedSeqFTLib.scene.placing import add_segmentation
from MedSeqFTLib.scene.proposals import add_proposal
from MedSeqFTLib.scene.volumes import add_volume, image_of
from MedSeqFTLib.workspace.files import sha256_of
from MedSeqFTLib.workspace.schema import Label, Modality, Segmentation, Task, Window
from MedSeqFTLib.workspace.segmentations import store_segmentation
from MedSeqFTLib.workspace.workspace import Workspace

LABELS = tuple(Label(value=value, name=f"organ {value}", color=(1, 0, 0)) for value in range(1, 15))


def timed(name: str, action: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = action()
    print(f"{name:52s}{time.perf_counter() - began:8.2f} s")
    return result


def organs(shape: tuple[int, int, int]) -> np.ndarray:
    """14 slabs, which reach nearly to the edges of the volume [z, y, x]: nothing can be cropped away."""
    labels = np.zeros(shape, np.uint8)
    edges = np.linspace(2, shape[0] - 2, 15).astype(int)
    for value, (first, last) in enumerate(pairwise(edges), start=1):
        labels[first : last - 1, 4:-4, 4:-4] = value
    return labels


def proposed(logic: SceneLogic, volume: Any, label_map: sitk.Image) -> Segmentation:
    """As if a version had made it."""
    with logic.workspace.staging() as folder:
        file = folder / "proposal.seg.nrrd"
        write_seg_nrrd(label_map, LABELS, file)
        record = Segmentation(
            name="scan",
            task="organs",
            version="M1",
            reading="per-task",
            source_image="scan.nrrd",
            pixel_sha256="",
            segmentation_sha256=sha256_of(file),
            size=label_map.GetSize(),
            spacing=label_map.GetSpacing(),
            label_voxels={},
        )
        return store_segmentation(logic.workspace, record, file)


def polls(job: Following, count: int = 2000) -> float:
    """Milliseconds of processor time of one look at a job."""
    began = time.process_time()
    for _ in range(count):
        job.poll()
    return (time.process_time() - began) / count * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 300), help="voxels along x, y, z")
    x, y, z = parser.parse_args().size
    scene = slicer.vtkMRMLScene()
    image = sitk.GetImageFromArray(np.resize(smooth_scan((64, y, x)), (z, y, x)))
    label_map = sitk.GetImageFromArray(organs((z, y, x)))
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.create(Path(folder) / "workspace")
        workspace.add_task(Task(name="organs", modality=Modality.CT, labels=LABELS, intensity=Window()))
        logic = SceneLogic(workspace, scene)
        print(f"{x} x {y} x {z} voxels, 14 labels")
        volume = timed("image to a new volume node", lambda: add_volume(scene, image, "scan"))
        segmentation = timed(
            "label map to a new segmentation node", lambda: add_segmentation(volume, label_map, LABELS, "drawn")
        )
        timed("volume node to image", lambda: image_of(volume))
        timed("inspect", lambda: logic.inspect("organs", volume, segmentation))
        began = time.perf_counter()
        job = timed("accept, until it returns", lambda: logic.accept("organs", volume, segmentation, "train"))
        job.wait()
        job.require_finished()
        print(f"{'accept, until the case is stored':52s}{time.perf_counter() - began:8.2f} s")
        record = proposed(logic, volume, label_map)
        timed("load a proposal beside its volume", lambda: add_proposal(workspace, record, volume))
        timed("open the case again", lambda: cases.open_case(workspace, "organs", "scan", scene))
        print(f"{'a look at a job':52s}{polls(job):8.2f} ms of processor time")


if __name__ == "__main__":
    main()
