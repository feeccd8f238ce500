"""The whole adaptation with real worker processes on small scans."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from learning_samples import TINY, add_balls, ball_scan, ball_task, ball_workspace
from safetensors.torch import load_file
from torch import equal

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.exporting import export
from MedSeqFTLib.imaging.geometry import Geometry, difference
from MedSeqFTLib.imaging.volumes import read_volume, write_volume
from MedSeqFTLib.jobs import control, system
from MedSeqFTLib.jobs.job import JobFolder
from MedSeqFTLib.learning.preflight import check_adaptable
from MedSeqFTLib.learning.segmenting import segment_volume
from MedSeqFTLib.learning.settings import AdaptSettings, adapt_settings
from MedSeqFTLib.models.compute import choose_compute
from MedSeqFTLib.workspace.schema import ModelVersion, Role
from MedSeqFTLib.workspace.workspace import Workspace


def start(workspace: Workspace, task: str = "balls", **changes: str) -> JobFolder:
    settings = adapt_settings("quick", {**TINY, **changes}).model_dump(mode="json")
    return control.start_job(workspace, control.new_job(workspace, "adapt", task, settings))


def finished(workspace: Workspace, folder: JobFolder) -> ModelVersion:
    for _ in control.watch(folder, interval=0.1):
        pass
    assert folder.state() == "finished", folder.log_tail()
    version = folder.progress().version
    assert version is not None
    return workspace.version(version)


def weights_of(workspace: Workspace, version: ModelVersion) -> dict[str, object]:
    folder = workspace.version_folder(version.id)
    return {
        f"{name}:{key}": tensor
        for name in version.files
        if name.endswith(".safetensors")
        for key, tensor in load_file(folder / name).items()
    }


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, list[ModelVersion], Path]:
    """A workspace in which two tasks were learned one after the other."""
    folder = tmp_path_factory.mktemp("learned")
    workspace = ball_workspace(folder)
    versions = [finished(workspace, start(workspace))]
    task = workspace.add_task(ball_task("more-balls"))
    (folder / "second").mkdir()
    add_balls(workspace, folder / "second", task, range(10, 12), Role.TRAIN)
    add_balls(workspace, folder / "second", task, range(110, 111), Role.VALIDATION)
    versions.append(finished(workspace, start(workspace, "more-balls")))
    return workspace, versions, folder


def test_two_tasks_make_a_chain_of_versions(learned: tuple[Workspace, list[ModelVersion], Path]) -> None:
    workspace, (first, second), _ = learned
    foundation = workspace.version("M0")
    assert (foundation.kind, first.parent, second.parent) == ("foundation", "M0", "M1")
    assert set(second.plans) == {"balls", "more-balls"}
    assert set(second.buffers) == {"balls", "more-balls"}
    assert set(second.buffers["balls"]) <= set(first.train_cases)
    assert workspace.pointers().tasks == {"balls": "M1", "more-balls": "M2"}
    assert workspace.pointers().chain == "M2"
    for version in (foundation, first, second):
        workspace.verify_version(version)


def test_every_reading_of_every_task_is_measured(learned: tuple[Workspace, list[ModelVersion], Path]) -> None:
    _, (first, second), _ = learned
    assert {(s.task, s.reading, s.version) for s in first.scores} == {
        ("balls", "per-task", "M1"),
        ("balls", "single-model", "M1"),
    }
    assert {(s.task, s.reading, s.version) for s in second.scores} == {
        ("balls", "per-task", "M1"),
        ("balls", "single-model", "M1"),
        ("balls", "single-model", "M2"),
        ("more-balls", "per-task", "M2"),
        ("more-balls", "single-model", "M2"),
    }


def test_a_version_records_what_its_selection_depends_on(learned: tuple[Workspace, list[ModelVersion], Path]) -> None:
    workspace, versions, _ = learned
    foundation = workspace.version("M0")
    for version in versions:
        assert version.selection is not None and version.task is not None
        plan, conditions, estimator = (
            version.plans[version.task],
            version.selection.conditions,
            version.selection.estimator,
        )
        assert conditions is not None and estimator is not None
        assert (conditions.foundation, conditions.foundation_files) == ("M0", foundation.files)
        assert (conditions.intensity, conditions.spacing) == (plan.intensity, plan.spacing)
        assert (conditions.sampler, conditions.precision) == ("uniform", "float32")
        assert estimator.model_dump() == {"kind": "racing", "z": 2.5, "start": 4, "growth": 1.5}
        assert version.selection.passes == 4
        assert {s.case for s in version.selection.scores if s.kept} == set(version.buffers[version.task])


def test_progress_names_all_stages_and_the_time_left(learned: tuple[Workspace, list[ModelVersion], Path]) -> None:
    workspace, (first, _), _ = learned
    events, _ = control.job(workspace, first.job or "").events()
    stages = [event.stage for event in events if event.kind == "stage"]
    assert stages == ["prepare", "foundation", "MDS selection", "stage A", "stage B", "held-out cases"]
    progress = [event for event in events if event.kind == "progress"]
    assert any(event.seconds_left is not None for event in progress)
    assert {"segmentation", "features"} <= {name for event in progress for name in event.losses}
    assert any("foundation model" in (event.text or "") for event in events)


def test_a_segmentation_is_exported_on_the_grid_of_its_scan(
    learned: tuple[Workspace, list[ModelVersion], Path], tmp_path: Path
) -> None:
    workspace, _, _ = learned
    image, _ = ball_scan(500)
    write_volume(image, tmp_path / "new scan.nrrd")
    record = segment_volume(workspace, "balls", tmp_path / "new scan.nrrd", choose_compute("cpu", "float32"))
    assert record.version == "M1"
    files = export(workspace, "balls", record.name, tmp_path / "out")
    assert [path.name for path in files] == [f"{record.name}{e}" for e in (".seg.nrrd", ".labels.nrrd", ".json")]
    assert difference(Geometry.of(read_volume(files[1])), Geometry.of(image)) is None
    with pytest.raises(InputError, match="exists already"):
        export(workspace, "balls", record.name, tmp_path / "out")
    single = segment_volume(
        workspace,
        "balls",
        tmp_path / "new scan.nrrd",
        choose_compute("cpu", "float32"),
        version="M2",
        reading="single-model",
    )
    assert (single.version, single.reading) == ("M2", "single-model")
    with pytest.raises(InputError, match=r"Version M2 cannot segment task balls: it segments more-balls\."):
        segment_volume(workspace, "balls", tmp_path / "new scan.nrrd", choose_compute("cpu"), version="M2")


def test_a_job_that_another_version_started_is_refused_with_its_unknown_setting(tmp_path: Path) -> None:
    workspace = ball_workspace(tmp_path, train=1, validation=1)
    job = control.new_job(workspace, "adapt", "balls", {"a_setting_of_old": "one task"})
    folder = control.start_job(workspace, job)
    *_, last = control.watch(folder, interval=0.1)
    assert folder.state() == "failed"
    assert last.text.startswith("This job was started by another version of MedSeqFT")
    assert "field a_setting_of_old: " in last.text


def test_nothing_new_to_learn_is_refused(learned: tuple[Workspace, list[ModelVersion], Path]) -> None:
    workspace, _, _ = learned
    with pytest.raises(InputError, match="no new training case: version M1 has learned all 3"):
        check_adaptable(workspace, "balls", AdaptSettings())


def test_a_worker_killed_again_and_again_ends_at_the_same_weights(
    learned: tuple[Workspace, list[ModelVersion], Path], tmp_path: Path
) -> None:
    """SIGKILL at random moments of the run; the versions equal those of the unbroken run, bit for bit."""
    reference_workspace, (reference, _), _ = learned
    workspace = ball_workspace(tmp_path)
    folder = start(workspace, checkpoint_seconds="0")
    moments = random.Random(0)
    kills = 0
    for _ in range(2):
        began = len(folder.events()[0])
        wanted = moments.randint(4, 14)
        while folder.state() == "running" and len(folder.events()[0]) < began + wanted:
            time.sleep(0.005)
        process = folder.process()
        if folder.state() != "running" or process is None:
            break
        system.kill_tree(process.pid, process.create_time)
        assert folder.state() == "interrupted"
        kills += 1
        folder = control.resume(workspace, folder.id)
    version = finished(workspace, folder)
    assert kills >= 2
    assert [v.id for v in workspace.versions()] == ["M0", "M1"]
    ours, theirs = weights_of(workspace, version), weights_of(reference_workspace, reference)
    assert ours.keys() == theirs.keys()
    assert all(equal(ours[name], theirs[name]) for name in ours)
    assert [s.model_dump() for s in version.scores] == [s.model_dump() for s in reference.scores]


def test_a_cancelled_adaptation_can_be_resumed(tmp_path: Path) -> None:
    workspace = ball_workspace(tmp_path, train=2)
    folder = start(workspace, pretrain_steps="2000")
    while not any(event.stage == "foundation" and event.kind == "progress" for event in folder.events()[0]):
        time.sleep(0.05)
    assert control.cancel(folder) == "cancelled"
    assert not workspace.versions()
    settings = folder.job.settings
    assert settings["pretrain_steps"] == 2000
    folder = control.resume(workspace, folder.id)
    process = folder.process()
    assert process is not None
    assert process.runs()
    assert control.cancel(folder) == "cancelled"
