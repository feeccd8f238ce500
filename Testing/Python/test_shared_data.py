"""Four small real tasks, where they lie beside the project (or where MEDSEQFT_DATA says)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from MedSeqFTLib.imaging.decathlon import import_cases, read_data_set, split
from MedSeqFTLib.imaging.exporting import export
from MedSeqFTLib.imaging.geometry import Geometry, difference
from MedSeqFTLib.imaging.volumes import read_volume
from MedSeqFTLib.jobs import control
from MedSeqFTLib.learning.segmenting import segment_volume
from MedSeqFTLib.learning.settings import adapt_settings
from MedSeqFTLib.models.compute import choose_compute
from MedSeqFTLib.workspace.schema import ModelVersion, Role
from MedSeqFTLib.workspace.workspace import Workspace

DATA = Path(os.environ.get("MEDSEQFT_DATA", Path(__file__).parents[3] / "shared" / "data"))
TASKS = ("Task01_Hippocampus", "Task02_HeadNeckCT", "Task03_ProstateMR", "Task04_BrainRegions")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data sets are not here: no folder {DATA}")
LEAST_DICE = 0.84  # of 20 held-out hippocampus cases, learned from 20


def imported(workspace: Workspace, name: str, train: int, validation: int) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"this real data set is not here: no folder {DATA / name}")
    data = read_data_set(DATA / name)
    assert all(done.case for done in import_cases(workspace, data.task, split(data.pairs, train, validation, seed=0)))


def adapted(workspace: Workspace, task: str, preset: str, **changes: str) -> ModelVersion:
    settings = adapt_settings(preset, changes).model_dump(mode="json")
    folder = control.start_job(workspace, control.new_job(workspace, "adapt", task, settings))
    for _ in control.watch(folder):
        pass
    assert folder.state() == "finished", folder.log_tail()
    return workspace.version(folder.progress().version or "")


@needs_data
@pytest.mark.parametrize("name", TASKS)
def test_a_real_task_is_imported_whole(tmp_path: Path, name: str) -> None:
    workspace = Workspace.create(tmp_path / "workspace")
    imported(workspace, name, train=4, validation=2)
    cases = workspace.cases(name)
    assert [case.role for case in cases].count(Role.VALIDATION) == 2
    for case in cases:
        source = read_volume(DATA / name / "imagesTr" / case.source_image)
        stored = read_volume(workspace.image_path(case))
        assert difference(Geometry.of(stored), Geometry.of(source)) is None
        assert np.array_equal(sitk.GetArrayViewFromImage(stored), sitk.GetArrayViewFromImage(source))
        assert sum(case.label_voxels.values()) > 0


@needs_data
def test_a_real_task_is_learned_a_little(tmp_path: Path) -> None:
    """Short training on the smallest volumes: far better than nothing, and every part runs on real data."""
    workspace = Workspace.create(tmp_path / "workspace")
    imported(workspace, TASKS[0], train=6, validation=2)
    steps = {"pretrain_steps": "10", "stage_a_steps": "70", "stage_b_steps": "4", "selection_passes": "2"}
    version = adapted(workspace, TASKS[0], "quick", **steps)
    own = next(s for s in version.scores if (s.reading, s.version) == ("per-task", version.id))
    assert own.mean_dice is not None
    assert own.mean_dice > 0.4


@needs_data
@pytest.mark.slow
def test_hippocampus_reaches_the_bar(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "workspace")
    imported(workspace, TASKS[0], train=20, validation=20)
    version = adapted(workspace, TASKS[0], "balanced")
    own = next(s for s in version.scores if (s.reading, s.version) == ("per-task", version.id))
    assert len(own.cases) == 20
    assert own.mean_dice is not None
    assert own.mean_dice >= LEAST_DICE
    case = workspace.cases(TASKS[0], Role.VALIDATION)[0]
    scan = DATA / TASKS[0] / "imagesTr" / case.source_image
    record = segment_volume(workspace, TASKS[0], scan, choose_compute(), name="scan")
    files = export(workspace, TASKS[0], record.name, tmp_path / "export")
    assert difference(Geometry.of(read_volume(files[1])), Geometry.of(read_volume(scan))) is None
