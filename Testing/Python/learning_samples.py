"""Small real data for the learning tests: bright balls in noise, in a real workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from MedSeqFTLib.imaging.acceptance import accept
from MedSeqFTLib.imaging.segmentations import write_label_map
from MedSeqFTLib.imaging.volumes import write_volume
from MedSeqFTLib.workspace.schema import Case, Label, Modality, Percentile, Role, Task
from MedSeqFTLib.workspace.workspace import Workspace

LABELS = (
    Label(value=1, name="ball", color=(1.0, 0.2, 0.2)),
    Label(value=4, name="shell", color=(0.2, 0.6, 1.0)),
)
TINY = {
    "batch_size": "2",
    "patch_side": "16",
    "foundation": "new",
    "pretrain_steps": "4",
    "stage_a_steps": "6",
    "stage_b_steps": "4",
    "lora_rank": "4",
    "lora_alpha": "8",
    "selection_passes": "4",
    "precision": "float32",
    "threads": "2",
}


def ball_scan(seed: int, shape: tuple[int, int, int] = (22, 24, 20)) -> tuple[sitk.Image, sitk.Image]:
    """An oblique scan of a bright ball (value 1) in a darker shell (value 4), and its label map."""
    random = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + random.uniform(-2, 2, 3)
    distance = np.linalg.norm(np.indices(shape) - centre[:, None, None, None], axis=0)
    labels = np.where(distance < 4, 1, np.where(distance < 7, 4, 0)).astype(np.uint8)
    pixels = np.select([labels == 1, labels == 4], [180, 110], 30) + random.normal(0, 12, shape)
    image = sitk.GetImageFromArray(np.rint(pixels).astype(np.int16))
    angle = random.uniform(-0.3, 0.3)
    image.SetDirection((np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, -1))
    image.SetSpacing((1.5, 1.2, 2.0))
    image.SetOrigin(tuple(random.uniform(-50, 50, 3)))
    label_map = sitk.GetImageFromArray(labels)
    label_map.CopyInformation(image)
    return image, label_map


def ball_task(name: str = "balls") -> Task:
    """A task with two labels whose values have a gap."""
    return Task(name=name, modality=Modality.MR, labels=LABELS, intensity=Percentile())


def add_balls(workspace: Workspace, folder: Path, task: Task, seeds: range, role: Role) -> list[Case]:
    """Accept one scan a seed."""
    cases = []
    for seed in seeds:
        image, label_map = ball_scan(seed)
        paths = folder / f"scan{seed}.nrrd", folder / f"labels{seed}.nrrd"
        write_volume(image, paths[0])
        write_label_map(label_map, paths[1])
        cases.append(accept(workspace, task, *paths, role, case_id=f"case{seed}"))
    return cases


def ball_workspace(folder: Path, train: int = 3, validation: int = 1) -> Workspace:
    """A workspace with one task of balls."""
    workspace = Workspace.create(folder / "workspace")
    task = workspace.add_task(ball_task())
    add_balls(workspace, folder, task, range(train), Role.TRAIN)
    add_balls(workspace, folder, task, range(100, 100 + validation), Role.VALIDATION)
    return workspace


class Notes:
    """A reporter that writes down what it is told, and can stop the run like a kill would."""

    def __init__(self, folder: Path, stop_at: int | None = None) -> None:
        self.folder = folder
        self.stop_at = stop_at
        self.steps: list[int] = []
        self.warnings: list[str] = []
        self.messages: list[str] = []
        self.planned: list[str] = []
        self.stages: list[str] = []

    def plan(self, stages: Sequence[tuple[str, float]]) -> None:
        self.planned = [name for name, _ in stages]

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.stages.append(name)
        self.first = done

    def step(self, step: int, losses: Mapping[str, object] | None = None, *, dice: object = None) -> None:
        self.steps.append(step)
        if step == self.stop_at:
            raise KeyboardInterrupt

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def device(self, device: str, text: str | None = None) -> None: ...

    def check_cancel(self) -> None: ...
