"""A task whose first version was learned, new cases with right and with sabotaged labels, and real adaptations.

Scans of balls anywhere in the volume; a small network with random weights as M0; the runner that workers call.
"""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from learning_samples import Notes, ball_scan, ball_task
from strategy_samples import PRETEXT

from MedSeqFTLib.imaging.acceptance import accept
from MedSeqFTLib.imaging.segmentations import write_label_map
from MedSeqFTLib.imaging.volumes import write_volume
from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.job import Job
from MedSeqFTLib.learning.adaptation import run_adaptation
from MedSeqFTLib.learning.publishing import publish_foundation, save_modules
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.models.weights import BACKBONE, PRETEXT_HEAD
from MedSeqFTLib.workspace.networks import ResidualUNetDescription
from MedSeqFTLib.workspace.schema import ExpectedInput, ModelVersion, Role
from MedSeqFTLib.workspace.workspace import Workspace

Labels = Literal["right", "swapped between structures", "exchanged between cases"]
NETWORK = ResidualUNetDescription(channels=(8, 16), decoder_features=8)
_NUMBERS = count(1)  # of jobs
SETTINGS = AdaptSettings(
    stage_a_steps=40,
    stage_b_steps=2,
    stage_a_learning_rate=1e-2,
    batch_size=2,
    patch_side=16,
    lora_rank=2,
    lora_alpha=4,
    selection="random",
    augment=False,
    overlap=0.25,
    precision="float32",
    threads=1,
)


def first_learned(folder: Path, held_out: int = 5) -> Workspace:
    """Two training cases, which M1 has learned a little."""
    workspace = Workspace.create(folder / "workspace")
    workspace.add_task(ball_task())
    with workspace.staging() as staged:
        modules = {BACKBONE: build_backbone(NETWORK, 3), PRETEXT_HEAD: build_pretext(PRETEXT, NETWORK, 3)}
        save_modules(staged, modules)
        expected = ExpectedInput(intensity={}, patch=(16, 16, 16))
        publish_foundation(workspace, staged, NETWORK, "random weights", pretext=PRETEXT, input=expected)
    add_scans(workspace, range(2), Role.TRAIN)
    add_scans(workspace, range(100, 100 + held_out), Role.VALIDATION)
    adapt(workspace, stage_a_steps=10)
    return workspace


def copied(workspace: Workspace, folder: Path) -> Workspace:
    """One test's own."""
    shutil.copytree(workspace.folder, folder / "workspace")
    return Workspace.open(folder / "workspace")


def add_scans(workspace: Workspace, seeds: range, role: Role, labels: Labels = "right") -> None:
    """Accept a scan a seed, with its own labels or with wrong ones."""
    task, maps = workspace.task("balls"), [scan(seed)[1] for seed in seeds]
    for number, seed in enumerate(seeds):
        image = scan(seed)[0]
        drawn = maps[number]
        if labels == "swapped between structures":
            drawn = np.select([drawn == 1, drawn == 4], [4, 1], 0).astype(np.uint8)
        elif labels == "exchanged between cases":
            drawn = maps[(number + 1) % len(maps)]
        with workspace.staging() as folder:
            paths = folder / f"scan{seed}.nrrd", folder / f"labels{seed}.nrrd"
            write_volume(image, paths[0])
            write_label_map(on_grid(drawn, image), paths[1])
            accept(workspace, task, *paths, role, case_id=f"case{seed}")


def scan(seed: int) -> tuple[sitk.Image, np.ndarray]:
    """A ball anywhere in the volume, and its labels [z, y, x]."""
    image, labels = ball_scan(seed)
    shift = tuple(int(voxels) for voxels in np.random.default_rng(seed).integers(0, 20, 3))
    pixels, drawn = (np.roll(sitk.GetArrayFromImage(part), shift, (0, 1, 2)) for part in (image, labels))
    return on_grid(pixels, image), drawn


def on_grid(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    found = sitk.GetImageFromArray(array)
    found.CopyInformation(image)
    return found


def adapt(workspace: Workspace, notes: Notes | None = None, job: Job | None = None, **changes: object) -> ModelVersion:
    """What a worker does for `medseqft adapt`, in this process.

    Args:
        job: goes on with it.
    """
    job = job or new_job(workspace, **changes)
    folder = workspace.folder.parent / job.id
    folder.mkdir(exist_ok=True)
    return workspace.version(run_adaptation(workspace, job, notes or Notes(folder)))


def new_job(workspace: Workspace, **changes: object) -> Job:
    """With a number: no folder keeps its id taken, as a started job's does, and two may come within one second."""
    settings = SETTINGS.model_copy(update=changes)
    job = control.new_job(workspace, "adapt", "balls", settings.model_dump(mode="json"))
    return job.model_copy(update={"id": f"{job.id}-{next(_NUMBERS)}"})
