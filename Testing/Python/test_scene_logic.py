"""What scripts and panels call, with real nodes and workers; models are made up where none has to compute."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
import workspace_samples as samples
from imaging_samples import one_line
from learning_samples import LABELS, ball_scan, ball_task
from proposal_samples import add_proposal
from slicer_boot import scene as scene  # a fixture
from slicer_samples import slicer, vtk_matrix

from MedSeqFTLib.errors import GeometryError, InputError, JobError
from MedSeqFTLib.imaging.segmentations import read_label_map
from MedSeqFTLib.imaging.volumes import read_volume
from MedSeqFTLib.jobs import control, system
from MedSeqFTLib.jobs.following import Following
from MedSeqFTLib.learning.errands import run_acceptance
from MedSeqFTLib.scene.logic import SceneLogic
from MedSeqFTLib.scene.placing import add_segmentation
from MedSeqFTLib.scene.program import worker_python
from MedSeqFTLib.scene.proposals import SegmentingJob
from MedSeqFTLib.scene.tasks import task_of
from MedSeqFTLib.scene.volumes import add_volume
from MedSeqFTLib.workspace.schema import Case, Code, Label, Role, Segmentation
from MedSeqFTLib.workspace.segmentations import name_for_volume
from MedSeqFTLib.workspace.workspace import Workspace

TESTS = Path(__file__).resolve().parent


@pytest.fixture
def logic(scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SceneLogic]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    workspace = Workspace.create(tmp_path / "my wörkspace")
    workspace.add_task(ball_task())
    for name, parent, task in (("M0", None, None), ("M1", "M0", "balls")):
        files = samples.weights_folder(tmp_path / name)
        workspace.publish(samples.a_version(name, files, task, parent), files)
    yield SceneLogic(workspace)
    for folder in control.list_jobs(workspace):
        if process := folder.process():
            system.kill_tree(process.pid, process.create_time)


def nodes(scene: Any, seed: int = 1, name: str = "scan") -> tuple[Any, Any]:
    """A volume node with balls, and its segmentation node."""
    image, label_map = ball_scan(seed)
    volume = add_volume(scene, image, name)
    return volume, add_segmentation(volume, label_map, LABELS, f"{name} drawn")


def finished(job: Following) -> Following:
    job.wait(timeout=60, interval=0.02)
    job.require_finished()
    return job


def unchanged(logic: SceneLogic, kind: type[Any], what: Callable[[], object], *parts: str) -> None:
    """`what` is refused, and leaves the workspace and the scene as they were."""
    folder, scene = logic.workspace.folder, logic.scene
    before = samples.tree(folder), scene.GetNumberOfNodes()
    one_line(kind, what, *parts)
    assert (samples.tree(folder), scene.GetNumberOfNodes()) == before


def kill(job: Following) -> None:
    """As a power loss would."""
    deadline = time.monotonic() + 20
    while (process := job.folder.process()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    psutil.Process(process.pid).kill()
    while job.folder.worker_lives():
        time.sleep(0.01)


def proposal(logic: SceneLogic, volume: Any, label_map: sitk.Image, name: str = "scan") -> Segmentation:
    return add_proposal(logic.workspace, volume, label_map, name)


# accept


def test_an_accepted_case_is_what_the_nodes_showed(logic: SceneLogic, scene: Any) -> None:
    volume, segmentation = nodes(scene)
    image, label_map = ball_scan(1)
    job = logic.accept("balls", volume, segmentation, "train", by="me")
    slicer.util.arrayFromVolume(volume)[:] = 0  # from now on the nodes are the user's again
    segmentation.GetSegmentation().RemoveAllSegments()
    case = finished(job).result(Case)
    assert (case.id, case.role.value, case.accepted_by, case.proposed_by) == ("scan", "train", "me", None)
    assert (case.source_image, case.source_segmentation) == ("scan.nrrd", "scan.seg.nrrd")
    stored = read_volume(logic.workspace.image_path(case))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(stored), sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(stored.GetDirection(), image.GetDirection(), rtol=0, atol=1e-12)
    found = read_label_map(logic.workspace.segmentation_path(case), LABELS)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found.image), sitk.GetArrayFromImage(label_map))
    assert not job.folder.input_folder.exists()
    assert logic.not_stored() == []


@pytest.mark.slow
def test_accepting_a_large_case_returns_before_it_is_stored(logic: SceneLogic, scene: Any) -> None:
    """How soon it returns is measured by Testing/Benchmarks/heartbeat.py."""
    plane = np.random.default_rng(0).integers(-1000, 3000, (1, 512, 512), np.int16)
    image = sitk.GetImageFromArray(np.tile(plane, (300, 1, 1)))
    label_map = sitk.GetImageFromArray(np.repeat(np.uint8([1, 4]), 150 * 512 * 512).reshape(300, 512, 512))
    volume = add_volume(scene, image, "large")
    segmentation = add_segmentation(volume, label_map, LABELS, "drawn")
    job = logic.accept("balls", volume, segmentation, "train")
    assert logic.workspace.cases("balls") == []
    finished(job)
    (case,) = logic.workspace.cases("balls")
    found = read_label_map(logic.workspace.segmentation_path(case), LABELS)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found.image), sitk.GetArrayFromImage(label_map))


def test_what_cannot_be_accepted_changes_nothing(logic: SceneLogic, scene: Any) -> None:
    volume, segmentation = nodes(scene)
    other, _ = nodes(scene, 2, "other")
    finished(logic.accept("balls", other, _, "train", case_id="Taken"))

    def accept(**changes: Any) -> Callable[[], object]:
        given = {"task": "balls", "volume": volume, "segmentation": segmentation, "role": "train", **changes}
        return lambda: logic.accept(**given)

    unchanged(logic, InputError, accept(role="test"), "'test'", "train or validation")
    unchanged(logic, InputError, accept(task="hearts"), "'hearts'")
    unchanged(logic, InputError, accept(case_id="../x"), "'../x'")
    unchanged(logic, InputError, accept(case_id="taken"), "taken already")
    unchanged(logic, InputError, accept(volume=None), "No volume is selected")
    unchanged(logic, InputError, accept(segmentation=volume), "No segmentation is selected")
    unchanged(logic, GeometryError, accept(volume=other), "'scan drawn'", "does not fit")
    segmentation.GetSegmentation().GetNthSegment(0).SetName("thing")
    unchanged(logic, InputError, accept(), "'scan drawn'", "thing", "rename or delete")


def test_the_same_scan_is_accepted_once_and_the_second_edit_is_kept(logic: SceneLogic, scene: Any) -> None:
    volume, segmentation = nodes(scene)
    finished(logic.accept("balls", volume, segmentation, "train"))
    second = logic.accept("balls", volume, segmentation, "validation")
    assert second.wait(timeout=60) == "failed"
    with pytest.raises(JobError, match="already the train case scan"):
        second.require_finished()
    (kept,) = logic.not_stored()
    assert sorted(path.name for path in kept.folder.input_folder.iterdir()) == ["scan-2.nrrd", "scan-2.seg.nrrd"]


def test_volumes_of_one_name_become_cases_of_two_names(logic: SceneLogic, scene: Any) -> None:
    jobs = [logic.accept("balls", *nodes(scene, seed, "CT Thorax"), "train") for seed in (1, 2)]
    jobs.append(logic.accept("balls", *nodes(scene, 3, "胸部"), "train"))
    assert [finished(job).result(Case).id for job in jobs] == ["CT-Thorax", "CT-Thorax-2", "volume"]


def test_a_killed_acceptance_is_resumed(logic: SceneLogic, scene: Any) -> None:
    volume, segmentation = nodes(scene)
    job = logic.accept("balls", volume, segmentation, "train")
    kill(job)
    assert job.wait(timeout=60) in ("interrupted", "failed")  # failed: killed before it could say that it began
    scene.Clear()
    (waiting,) = logic.not_stored()
    case = finished(SceneLogic(logic.workspace.folder).resume(waiting.folder.id)).result(Case)
    assert case.id == "scan"
    assert logic.not_stored() == []


def test_the_edit_outlives_a_slicer_that_dies_right_after_accepting(logic: SceneLogic, scene: Any) -> None:
    """Another process accepts and is killed at once; this one finds the job, and the case."""
    code = """
import os, signal, slicer, sys
from learning_samples import LABELS, ball_scan
from MedSeqFTLib.scene.logic import SceneLogic
from MedSeqFTLib.scene.placing import add_segmentation
from MedSeqFTLib.scene.volumes import add_volume
scene = slicer.vtkMRMLScene()
image, label_map = ball_scan(5)
volume = add_volume(scene, image, "scan")
node = add_segmentation(volume, label_map, LABELS, "drawn")
print(SceneLogic(sys.argv[1], scene).accept("balls", volume, node, "train").folder.id, flush=True)
os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
"""
    child = samples.python(code, logic.workspace.folder)
    told, complaints = child.communicate(timeout=60)
    assert child.returncode not in (0, 1), complaints
    assert [job.folder.id for job in logic.running()] in ([told.strip()], [])
    case = finished(logic.job(told.strip())).result(Case)
    found = read_label_map(logic.workspace.segmentation_path(case), LABELS)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found.image), sitk.GetArrayFromImage(ball_scan(5)[1]))


def test_an_acceptance_that_was_killed_after_storing_is_finished(logic: SceneLogic, scene: Any) -> None:
    """Run again on the same input, in this process: the case is found, and is not taken for somebody else's."""
    volume, segmentation = nodes(scene)
    job = logic.accept("balls", volume, segmentation, "train")
    kept = logic.workspace.folder / "kept"
    shutil.copytree(job.folder.input_folder, kept)
    case = finished(job).result(Case)
    shutil.move(kept, job.folder.input_folder)
    job.folder.result_path.unlink()

    class Quiet:
        folder = job.folder.path

        def stage(self, *_: object) -> None: ...
        def step(self, *_: object) -> None: ...

    run_acceptance(logic.workspace, job.folder.job, Quiet())  # type: ignore[arg-type]
    assert Following(job.folder).result(Case) == case
    assert not job.folder.input_folder.exists()


def test_errands_run_while_the_model_is_adapted(logic: SceneLogic, scene: Any) -> None:
    adapting = control.new_job(logic.workspace, "adapt", "balls", {"steps": 3000, "pause": 0.01})
    control.start_job(logic.workspace, adapting, runner="job_runners:count")
    finished(logic.accept("balls", *nodes(scene), "train"))
    assert [job.folder.id for job in logic.running()] == [adapting.id]
    with pytest.raises(control.WorkspaceBusy, match="already running"):
        logic.adapt("balls", "quick", {"selection": "random", "buffer_size": "1"})


# proposals


def test_a_proposal_is_placed_corrected_and_accepted(logic: SceneLogic, scene: Any) -> None:
    volume, _ = nodes(scene)
    label_map = ball_scan(1)[1]
    record = proposal(logic, volume, label_map, "scan-7")
    node = logic.load_proposal("balls", "scan-7", volume)
    assert node.GetName() == "scan by M1"
    assert node.GetStorageNode() is None
    identifier = node.GetSegmentation().GetNthSegmentID(1)
    shell = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume)
    shell[:10] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(shell, node, identifier, volume)
    case = finished(logic.accept("balls", volume, node, "train")).result(Case)
    ours, theirs = (sitk.GetArrayFromImage(label_map) == 4), shell != 0
    shell_dice = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
    assert (case.id, case.proposed_by) == ("scan-7", record.version)
    assert case.proposal_dice == pytest.approx((1 + shell_dice) / 2)


def test_a_volume_that_was_moved_after_it_was_segmented_is_accepted_without_dice(logic: SceneLogic, scene: Any) -> None:
    volume, _ = nodes(scene)
    proposal(logic, volume, ball_scan(1)[1])
    node = logic.load_proposal("balls", "scan", volume)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shift = np.eye(4)
    shift[0, 3] = 5
    transform.SetMatrixTransformToParent(vtk_matrix(shift))
    for moved in (volume, node):
        moved.SetAndObserveTransformNodeID(transform.GetID())
    case = finished(logic.accept("balls", volume, node, "train")).result(Case)
    assert (case.proposed_by, case.proposal_dice) == ("M1", None)


def test_a_proposal_for_another_volume_is_refused(logic: SceneLogic, scene: Any) -> None:
    volume, _ = nodes(scene)
    proposal(logic, volume, ball_scan(1)[1])
    other, _ = nodes(scene, 2, "other")
    unchanged(logic, GeometryError, lambda: logic.load_proposal("balls", "scan", other), "'other'", "grids")
    unchanged(logic, InputError, lambda: logic.load_proposal("balls", "nobody", other), "nobody")


def test_a_proposal_without_a_voxel_can_be_shown_drawn_exported_and_accepted(
    logic: SceneLogic, scene: Any, tmp_path: Path
) -> None:
    volume, _ = nodes(scene)
    proposal(logic, volume, ball_scan(1)[1] * 0)
    node = logic.load_proposal("balls", "scan", volume)
    assert logic.inspect("balls", volume, node).is_empty
    assert node.GetSegmentation().GetNumberOfSegments() == 2
    finished(logic.export("balls", ["scan"], tmp_path / "out"))
    assert not sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "scan.labels.nrrd"))).any()
    identifier = node.GetSegmentation().GetNthSegmentID(0)
    drawn = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    drawn[3:9, 4:8, 5:9] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, identifier, volume)
    case = finished(logic.accept("balls", volume, node, Role.TRAIN)).result(Case)
    assert (case.label_voxels, case.proposal_dice) == ({"ball": 96, "shell": 0}, 0)


def test_the_volume_may_be_removed_while_it_is_segmented(logic: SceneLogic, scene: Any) -> None:
    volume, _ = nodes(scene)
    record = proposal(logic, volume, ball_scan(1)[1])
    counting = control.new_job(logic.workspace, "adapt", "balls", {"steps": 1, "pause": 0.01})
    folder = control.start_job(logic.workspace, counting, runner="job_runners:count")
    job = SegmentingJob(folder, logic.workspace, volume)
    finished(job)
    folder.result_path.write_text(record.model_dump_json(), encoding="utf-8")
    assert job.load().GetName() == "scan by M1"
    del volume
    scene.Clear()
    unchanged(logic, InputError, job.load, "'scan'", "no longer in the scene", "kept")


def test_segmenting_without_a_model_is_refused(logic: SceneLogic, scene: Any) -> None:
    volume, _ = nodes(scene)
    unchanged(logic, InputError, lambda: logic.segment("balls", volume), "no model yet")
    unchanged(logic, InputError, lambda: logic.segment("balls", volume, version="M0"), "M0 cannot segment")
    unchanged(logic, InputError, lambda: logic.segment("balls", None), "No volume")


def test_a_volume_keeps_its_name_and_another_one_gets_a_new_one(logic: SceneLogic, scene: Any) -> None:
    volume, _ = nodes(scene)
    record = proposal(logic, volume, ball_scan(1)[1])
    assert name_for_volume(logic.workspace, "balls", "Scan", record.pixel_sha256) == "Scan"
    assert name_for_volume(logic.workspace, "balls", "Scan", "other") == "Scan-2"


# cases, tasks, versions, export


def test_a_case_is_opened_again(logic: SceneLogic, scene: Any) -> None:
    finished(logic.accept("balls", *nodes(scene), "train"))
    scene.Clear()
    volume, segmentation = logic.open_case("balls", "scan")
    image, label_map = ball_scan(1)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume), sitk.GetArrayFromImage(image))
    assert (volume.GetStorageNode(), segmentation.GetStorageNode()) == (None, None)
    found = logic.inspect("balls", volume, segmentation)
    array = sitk.GetArrayFromImage(label_map)
    assert found.voxels == {label.name: (array == label.value).sum() for label in LABELS}


def test_a_task_of_segments(scene: Any) -> None:
    code = Code(scheme="SCT", value="78961009", meaning="Spleen")
    labels = (
        Label(value=9, name="spleen", color=(0.5, 0.25, 0.75), code=code),
        Label(value=4, name="cyst", color=(1, 0, 0)),
    )
    image, label_map = ball_scan(1)
    node = add_segmentation(add_volume(scene, image, "scan"), label_map * 0, labels, "drawn")
    task = task_of("abdomen", "CT", node)
    assert [(label.value, label.name, label.color, label.code) for label in task.labels] == [
        (1, "spleen", (0.5, 0.25, 0.75), code),
        (2, "cyst", (1, 0, 0), None),
    ]
    assert task.intensity.kind == "window"
    one_line(InputError, lambda: task_of("abdomen", "PET", node), "'PET'", "CT or MR")
    one_line(InputError, lambda: task_of("a/b", "CT", node), "'a/b'")
    node.GetSegmentation().GetNthSegment(1).SetName("Spleen")
    one_line(InputError, lambda: task_of("abdomen", "CT", node), "names must differ")
    one_line(InputError, lambda: task_of("abdomen", "CT", None), "No segmentation")


def test_versions(logic: SceneLogic) -> None:
    assert logic.current("balls") is None
    logic.promote("M1", "good", by="me")
    assert logic.current("balls").id == "M1"
    assert logic.workspace.pointers().history[-1].who == "me"
    assert logic.verdict("M1").good
    assert str(logic.verdict("M1")) == "first version of balls, no held-out case to measure it on."
    assert logic.roll_back("balls") is None
    assert (logic.picks("M1"), logic.outcome("M1")) == ([], [])


def test_the_policy_of_promotion(logic: SceneLogic) -> None:
    unchanged(logic, InputError, lambda: logic.change_policy("never"), "only with a reason")
    unchanged(logic, InputError, lambda: logic.change_policy("sometimes", "why not"), "better, person or never")  # type: ignore[arg-type]
    assert logic.change_policy("never", "a trial begins", by="me", earlier_margin=0.02).earlier_margin == 0.02
    unchanged(logic, InputError, lambda: logic.promote("M1", "good"), "nothing is promoted until")
    assert logic.change_policy("better", "the trial is over").earlier_margin == 0.02
    logic.promote("M1")


def test_export_refuses_and_fails_in_words(logic: SceneLogic, scene: Any, tmp_path: Path) -> None:
    unchanged(logic, InputError, lambda: logic.export("balls", [], tmp_path), "Nothing to export")
    finished(logic.accept("balls", *nodes(scene), "train"))
    assert logic.exportable("balls") == ["scan"]
    finished(logic.export("balls", ["scan"], tmp_path / "out"))
    again = logic.export("balls", ["scan"], tmp_path / "out")
    assert again.wait(timeout=60) == "failed"
    assert "exists already" in again.progress.text


# following


def test_a_job_that_does_not_begin_is_failed(logic: SceneLogic) -> None:
    job = control.new_job(logic.workspace, "export", "balls", {})
    following = Following(control.start_job(logic.workspace, job, runner="no/name", wait=False))
    assert following.wait(timeout=60) == "failed"
    with pytest.raises(JobError, match="resume"):
        following.require_finished()


def test_cancelling_kills_a_worker_that_does_not_listen(logic: SceneLogic) -> None:
    job = control.new_job(logic.workspace, "adapt", "balls")
    following = Following(control.start_job(logic.workspace, job, runner="job_runners:deaf"))
    following.cancel(grace_seconds=0.1)
    following.poll()
    assert following.state == "cancelling"
    assert following.wait(timeout=20) == "cancelled"
    assert not following.folder.worker_lives()
    with pytest.raises(JobError, match="only a running job"):
        following.cancel()


def test_polling_is_cheap_and_gives_each_event_once(logic: SceneLogic) -> None:
    """Once a second for a whole job: under 1 % of a core."""
    job = control.new_job(logic.workspace, "adapt", "balls", {"steps": 40, "pause": 0.02})
    following = Following(control.start_job(logic.workspace, job, runner="job_runners:count"))
    events, polls, idle = following.poll(), 0, []
    before = time.process_time()
    while following.is_active:
        events += following.poll()
        polls += 1
        time.sleep(0.01)
    assert (time.process_time() - before) / polls < 0.01
    assert (events[-1].kind, following.state) == ("finished", "finished")
    assert [event.time for event in following.folder.events()[0]][-len(events) :] == [event.time for event in events]
    assert Following(following.folder).progress == following.progress
    following.wait(idle=lambda: idle.append(1))
    assert not idle


def test_workers_are_run_by_pythonslicer_inside_slicer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert worker_python() is None
    monkeypatch.setattr(slicer, "app", SimpleNamespace(slicerHome=str(tmp_path)), raising=False)
    monkeypatch.setenv("PATH", "")
    one_line(JobError, worker_python, "PythonSlicer", str(tmp_path))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "PythonSlicer"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert worker_python() == str(program)
