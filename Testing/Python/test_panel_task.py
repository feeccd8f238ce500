"""Task: choosing and making one, its versions, and comparing two of them on a volume, with real workers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import workspace_samples as samples
from learning_samples import LABELS, ball_scan, ball_task
from panel_samples import copied
from safetensors.numpy import load_file, save_file
from slicer_program import Window, inside, scene, window  # noqa: F401
from slicer_samples import slicer

from MedSeqFTLib.jobs import control, system
from MedSeqFTLib.scene.placing import add_segmentation
from MedSeqFTLib.scene.volumes import add_volume
from MedSeqFTLib.workspace.audit import entries
from MedSeqFTLib.workspace.files import sha256_of
from MedSeqFTLib.workspace.schema import CaseScore, Code, Label, TaskPlan, TaskScores
from MedSeqFTLib.workspace.schema import Window as IntensityWindow
from MedSeqFTLib.workspace.workspace import Workspace

PLAN = TaskPlan(labels=LABELS, intensity=IntensityWindow(), spacing=(1, 1, 1), patch=(16, 16, 16))


def measured(task: str, version: str, dice: float) -> TaskScores:
    case = CaseScore(case="case100", dice={"ball": dice, "shell": dice})
    return TaskScores(task=task, reading="per-task", version=version, cases=(case,), mean_dice=dice)


@pytest.fixture
def versions(tmp_path: Path) -> Workspace:
    """Two tasks. Of balls: M1, which is current, and M2, which held-out cases do not speak for. No weights."""
    workspace = Workspace.create(tmp_path / "workspace")
    workspace.add_task(ball_task())
    workspace.add_task(ball_task("more-balls"))
    scores = {
        "M0": (),
        "M1": (measured("balls", "M1", 0.8),),
        "M2": (measured("balls", "M1", 0.8), measured("balls", "M2", 0.75)),
        "M3": (measured("balls", "M1", 0.8), measured("more-balls", "M3", 0.6)),
    }
    tasks = {"M1": "balls", "M2": "balls", "M3": "more-balls"}
    for name, found in scores.items():
        files = samples.weights_folder(tmp_path / name)
        parent = {"M1": "M0", "M2": "M1", "M3": "M1"}.get(name)
        made = samples.a_version(name, files, tasks.get(name), parent)
        changes = {
            "scores": found,
            "plans": {task: PLAN for task in ("balls", "more-balls")},
            "train_cases": ("case1", "case2"),
            "validation_cases": ("case100",),
        }
        workspace.publish(made.model_copy(update=changes if parent else {}), files)
        if name == "M1":
            workspace.promote("M1", "me", "first")
    return workspace


def opened(window: Window, workspace: Workspace) -> None:  # noqa: F811
    window.widget.session.use(Workspace.open(workspace.folder))


def table(proxy: Any) -> list[list[str]]:
    real = inside(proxy)
    return [[real.item(row, column).text() for column in range(real.columnCount())] for row in range(real.rowCount())]


def choose_version(window: Window, version: str) -> None:  # noqa: F811
    real = inside(window.ui.lineageTable)
    (item,) = [real.item(row, 0) for row in range(real.rowCount()) if real.item(row, 0).text() == version]
    real.setCurrentItem(item)


def drawn(scene: Any, labels: tuple[Label, ...] = LABELS, name: str = "drawn") -> Any:  # noqa: F811
    image, label_map = ball_scan(1)
    return add_segmentation(add_volume(scene, image, "scan"), label_map * 0, labels, name)


# the task


def test_without_a_workspace_it_is_told(window: Window) -> None:  # noqa: F811
    assert not window.ui.taskCollapsibleButton.isEnabled()
    assert window.ui.taskStateLabel.text == "Open a workspace in Set-up first."


def test_a_task_is_made_of_segments(window: Window, scene: Any, tmp_path: Path) -> None:  # noqa: F811
    opened(window, Workspace.create(tmp_path / "workspace"))
    ui = window.ui
    assert ui.taskStateLabel.text.startswith("No task yet")
    assert not ui.taskComboBox.isEnabled()
    code = Code(scheme="SCT", value="78961009", meaning="Spleen")
    drawn(scene, (Label(value=7, name="spleen", color=(0.6, 0.4, 0.2), code=code), LABELS[1]))
    window.click(ui.newTaskButton)
    window.choose(ui.newTaskSegmentationSelector, "drawn")
    assert table(ui.newTaskLabelsTable) == [["1", "spleen", "Spleen (SCT 78961009)"], ["2", "shell", ""]]
    swatch = inside(ui.newTaskLabelsTable).item(0, 0).icon().pixmap(14, 14).toImage().pixelColor(7, 7)
    assert (swatch.red(), swatch.green(), swatch.blue()) == (153, 102, 51)
    assert ui.createTaskButton.toolTip == "Give the task a name."
    window.type(ui.newTaskNameLineEdit, "abdomen")
    window.choose(ui.newTaskModalityComboBox, "MR")
    window.click(ui.createTaskButton)
    window.wait_until(lambda: not ui.newTaskFrame.visible)
    task = window.widget.session.logic.workspace.task("abdomen")
    assert [(label.value, label.name, label.code) for label in task.labels] == [(1, "spleen", code), (2, "shell", None)]
    assert (task.modality.value, task.intensity.kind) == ("MR", "percentile")
    assert window.widget.session.task == ui.taskComboBox.currentText == "abdomen"
    assert not ui.newTaskFrame.visible
    assert table(ui.labelsTable) == [["1", "spleen", "Spleen (SCT 78961009)"], ["2", "shell", ""]]
    assert ui.taskStateLabel.text.startswith("No model yet")
    assert window.ui.segmentCollapsibleButton.isEnabled()


def test_what_cannot_become_a_task_is_told_while_it_is_typed(
    window: Window,  # noqa: F811
    scene: Any,  # noqa: F811
    versions: Workspace,
) -> None:
    opened(window, versions)
    ui = window.ui
    window.click(ui.newTaskButton)

    def told(part: str) -> None:
        assert not ui.createTaskButton.isEnabled()
        assert part in ui.createTaskButton.toolTip
        assert ui.newTaskStateLabel.text == ui.createTaskButton.toolTip

    told("Choose a segmentation")
    scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    window.choose(ui.newTaskSegmentationSelector, "empty")
    told("it has no segment")
    node = drawn(scene)
    window.choose(ui.newTaskSegmentationSelector, "drawn")
    for name, part in (("a/b", "'a/b'"), ("Balls", "has a task Balls already"), ("", "Give the task a name")):
        window.type(ui.newTaskNameLineEdit, name)
        told(part)
    window.type(ui.newTaskNameLineEdit, "fine")
    assert ui.createTaskButton.isEnabled()
    node.GetSegmentation().GetNthSegment(1).SetName("Ball")
    window.click(ui.newTaskButton)
    window.click(ui.newTaskButton)
    told("names must differ")
    scene.RemoveNode(node)
    told("Choose a segmentation")


def test_a_segment_that_is_renamed_meanwhile_is_seen(
    window: Window,  # noqa: F811
    scene: Any,  # noqa: F811
    versions: Workspace,
) -> None:
    opened(window, versions)
    window.click(window.ui.newTaskButton)
    node = drawn(scene)
    window.choose(window.ui.newTaskSegmentationSelector, "drawn")
    node.GetSegmentation().GetNthSegment(0).SetName("spleen")
    window.type(window.ui.newTaskNameLineEdit, "fine")
    assert table(window.ui.newTaskLabelsTable)[0][1] == "spleen"


def test_choosing_a_task_is_kept_with_the_scene(window: Window, versions: Workspace) -> None:  # noqa: F811
    opened(window, versions)
    assert window.widget.session.parameters.task == "balls"
    told: list[str] = []
    window.widget.session.listen(lambda: told.append(window.widget.session.task))
    window.choose(window.ui.taskComboBox, "more-balls")
    assert window.widget.logic.getParameterNode().task == "more-balls"
    assert told == ["more-balls"]
    assert window.ui.taskStateLabel.text.startswith("No model yet")
    slicer.mrmlScene.Clear()
    assert window.widget.logic.getParameterNode().task == "more-balls"  # of the new scene
    window.reopen()
    opened(window, versions)
    assert window.ui.taskComboBox.currentText == "more-balls"


def test_a_scene_of_another_workspace_gets_a_task_that_there_is(
    window: Window,  # noqa: F811
    versions: Workspace,
) -> None:
    window.widget.session.parameters.task = "unheard of"
    opened(window, versions)
    assert window.ui.taskComboBox.currentText == "balls"
    assert window.widget.session.task == "balls"


# the versions


def test_the_lineage(window: Window, versions: Workspace) -> None:  # noqa: F811
    opened(window, versions)
    ui = window.ui
    assert ui.taskStateLabel.text == "M1 segments this task: held-out Dice 0.800 (cases: 1)."
    made = [f"{version.created:%Y-%m-%d %H:%M}" for version in versions.versions()]
    assert table(ui.lineageTable) == [
        ["M0", "foundation", "", "", "", "0 + 0", made[0]],
        ["M1", "current", "0.800", "", "M0", "2 + 1", made[1]],
        ["M2", "candidate", "0.750", "", "M1", "2 + 1", made[2]],
        ["M3", "candidate", "0.800", "0.600", "M1", "2 + 1", made[3]],
    ]
    header = inside(ui.lineageTable).horizontalHeaderItem
    assert [header(column).text() for column in (2, 3)] == ["Dice balls", "Dice more-balls"]


def test_promoting_against_the_verdict_needs_a_reason(window: Window, versions: Workspace) -> None:  # noqa: F811
    opened(window, versions)
    ui = window.ui

    def why_not(part: str) -> None:
        assert not ui.promoteButton.isEnabled()
        assert part in ui.promoteButton.toolTip

    why_not("Choose a version")
    choose_version(window, "M0")
    why_not("foundation model")
    choose_version(window, "M1")
    why_not("current already")
    choose_version(window, "M3")
    why_not("choose that task above")
    choose_version(window, "M2")
    why_not("do not show that M2 is better: ")
    why_not(str(window.widget.session.logic.verdict("M2")))
    why_not("0.800, now 0.750")
    why_not("write a reason")
    assert ui.versionStateLabel.text == ui.promoteButton.toolTip
    window.type(ui.reasonLineEdit, "better on thin slices")
    window.click(ui.promoteButton)
    window.wait_until(lambda: versions.pointers().tasks["balls"] == "M2")
    window.wait_until(lambda: ui.taskStateLabel.text.startswith("M2 segments"))
    assert versions.pointers().history[-1].reason == "better on thin slices"
    assert [row[1] for row in table(ui.lineageTable)] == ["foundation", "older", "current", "candidate"]
    assert ui.reasonLineEdit.text == ""


def test_a_second_version_is_offered_to_be_compared_with_the_first(
    window: Window,  # noqa: F811
    versions: Workspace,
    tmp_path: Path,
) -> None:
    opened(window, versions)
    window.choose(window.ui.taskComboBox, "more-balls")
    boxes = (window.ui.compareFirstComboBox, window.ui.compareSecondComboBox)
    assert [box.currentText for box in boxes] == ["M3", "M3"]  # there is no other
    files = samples.weights_folder(tmp_path / "M4")
    versions.publish(samples.a_version("M4", files, "more-balls", "M3"), files)
    window.widget.session.changed()
    assert {box.currentText for box in boxes} == {"M3", "M4"}


def test_rolling_back(window: Window, versions: Workspace) -> None:  # noqa: F811
    versions.promote("M2", "me", "an experiment")
    opened(window, versions)
    window.type(window.ui.reasonLineEdit, "it failed")
    window.click(window.ui.rollBackButton)
    window.wait_until(lambda: window.ui.taskStateLabel.text.startswith("M1 segments"))
    assert versions.pointers().tasks["balls"] == "M1"
    assert versions.pointers().history[-1].reason == "it failed"
    window.click(window.ui.rollBackButton)
    window.wait_until(lambda: window.ui.taskStateLabel.text.startswith("No model yet"))
    assert not window.ui.rollBackButton.isEnabled()
    assert "No version is current" in window.ui.rollBackButton.toolTip


def test_the_policy_is_changed_with_a_reason_and_freezes_what_is_current(
    window: Window,  # noqa: F811
    versions: Workspace,
) -> None:
    opened(window, versions)
    ui = window.ui
    assert ui.policyComboBox.currentText == "by itself if shown to be better"
    assert not ui.policyButton.isEnabled()
    window.choose(ui.policyComboBox, "never: frozen")
    assert "Write a reason" in ui.policyButton.toolTip
    window.type(ui.reasonLineEdit, "a trial begins")
    window.click(ui.policyButton)
    window.wait_until(lambda: ui.reasonLineEdit.text == "")
    assert versions.policy.promotion == "never"
    assert list(entries(versions))[-1][0].reason == "a trial begins"
    assert ui.policyComboBox.currentText == "never: frozen" and not ui.policyButton.isEnabled()
    choose_version(window, "M2")
    window.type(ui.reasonLineEdit, "better on thin slices")
    assert not ui.promoteButton.isEnabled() and "promotes nothing" in ui.promoteButton.toolTip
    assert ui.rollBackButton.isEnabled()
    window.choose(ui.policyComboBox, "only by a person, with a reason")
    window.click(ui.policyButton)
    window.wait_until(lambda: versions.policy.promotion == "person")
    choose_version(window, "M2")
    assert "write a reason" in ui.promoteButton.toolTip
    window.type(ui.reasonLineEdit, "better on thin slices")
    assert ui.promoteButton.isEnabled()


def test_a_damaged_version_is_not_promoted(window: Window, versions: Workspace) -> None:  # noqa: F811
    (versions.version_folder("M2") / "backbone.safetensors").write_bytes(b"damaged")
    opened(window, versions)
    choose_version(window, "M2")
    window.type(window.ui.reasonLineEdit, "all the same")
    window.dialogs.expect("backbone.safetensors is damaged")
    window.click(window.ui.promoteButton)
    window.wait_until(lambda: window.dialogs.shown)
    assert versions.pointers().tasks["balls"] == "M1"
    assert window.ui.promoteButton.isEnabled()


def test_a_workspace_that_another_process_writes_to_is_told(
    window: Window,  # noqa: F811
    versions: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A promotion waits 10 s for its turn in a thread; here less."""
    real = Workspace.lock
    monkeypatch.setattr(Workspace, "lock", lambda workspace, timeout=10.0: real(workspace, min(timeout, 0.1)))
    opened(window, versions)
    choose_version(window, "M2")
    window.type(window.ui.reasonLineEdit, "now")
    window.dialogs.expect("in use by another process")
    with Workspace.open(versions.folder).lock():
        window.click(window.ui.promoteButton)
        window.wait_until(lambda: window.dialogs.shown)
    assert versions.pointers().tasks["balls"] == "M1"


# comparing two versions


@pytest.fixture(scope="module")
def trained(adapted: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose M1 was really trained, a little; M2 is M1 with noise on the weights of its head."""
    folder = tmp_path_factory.mktemp("trained")
    workspace = copied(adapted, folder)
    files = folder / "files"
    shutil.copytree(workspace.version_folder("M1"), files)
    head, noise = files / "head-balls.safetensors", np.random.default_rng(0)
    changed = {
        key: value + noise.normal(0, 0.05, value.shape).astype(value.dtype) for key, value in load_file(head).items()
    }
    save_file(changed, head)
    declared = {name: sha256_of(files / name) for name in workspace.version("M1").files}
    made = workspace.version("M1").model_copy(update={"id": "M2", "parent": "M1", "files": declared, "scores": ()})
    workspace.publish(made, files)
    return workspace.folder


@pytest.fixture
def comparing(
    window: Window,  # noqa: F811
    scene: Any,  # noqa: F811
    trained: Path,
    tmp_path: Path,
) -> Iterator[Window]:
    """The window over a copy of that workspace, with a volume chosen."""
    shutil.copytree(trained, tmp_path / "workspace")
    opened(window, Workspace.open(tmp_path / "workspace"))
    window.widget.session.parameters.volume = add_volume(scene, ball_scan(7)[0], "scan")
    window.widget.session.changed()
    yield window
    for folder in control.list_jobs(Workspace.open(tmp_path / "workspace")):
        if process := folder.process():
            system.kill_tree(process.pid, process.create_time)


def view(scene: Any, name: str) -> tuple[Any, Any]:  # noqa: F811
    """The nodes of a slice view, as Slicer's layout makes them."""
    found = []
    for kind in ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode"):
        node = scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        node.SetSingletonTag(name)
        node.SetLayoutName(name)
        found.append(scene.AddNode(node))
    return found[0], found[1]


def test_two_versions_are_compared_after_a_change_of_mind(comparing: Window, scene: Any) -> None:  # noqa: F811
    ui = comparing.ui
    volume = comparing.widget.session.parameters.volume
    assert {ui.compareFirstComboBox.currentText, ui.compareSecondComboBox.currentText} == {"M1", "M2"}
    red, yellow = (view(scene, name) for name in ("Red", "Yellow"))
    red[0].SetSliceOffset(12.5)
    comparing.choose(ui.compareFirstComboBox, "M1")
    comparing.choose(ui.compareSecondComboBox, "M2")
    comparing.click(ui.compareButton)
    assert ui.compareButton.text == "Cancel"
    assert ui.compareBar.visible
    comparing.click(ui.compareButton)
    comparing.wait_until(lambda: ui.compareResumeButton.visible, 60)
    assert ui.compareLabel.text.startswith("Cancelled.")
    comparing.click(ui.compareResumeButton)
    comparing.wait_until(lambda: ui.compareTable.visible, 60)
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 2
    nodes = [slicer.util.getNode(name) for name in ("scan by M1", "scan by M2")]
    assert ui.compareButton.text == "Compare on this volume"
    assert ui.compareLabel.text.startswith("M1 is shown on the left, M2 on the right")
    expected = []
    for index, label in enumerate(LABELS):
        masks = []
        for node in nodes:
            identifier = node.GetSegmentation().GetNthSegmentID(index)
            masks.append(slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume) != 0)
        total = sum(int(mask.sum()) for mask in masks)
        dice = 2 * int(np.logical_and(*masks).sum()) / total if total else None
        expected.append([label.name, "neither has it" if dice is None else f"{dice:.3f}"])
    assert table(ui.compareTable) == expected
    views = [node.GetDisplayNode().GetNthViewNodeID(0) for node in nodes]
    assert views == ["vtkMRMLSliceNodeRed", "vtkMRMLSliceNodeYellow"]
    assert yellow[0].GetSliceOffset() == red[0].GetSliceOffset() == 12.5
    assert [composite.GetBackgroundVolumeID() for _, composite in (red, yellow)] == [volume.GetID()] * 2
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView


def test_what_cannot_be_compared_is_told(comparing: Window, scene: Any) -> None:  # noqa: F811
    ui, session = comparing.ui, comparing.widget.session
    comparing.choose(ui.compareFirstComboBox, ui.compareSecondComboBox.currentText)
    assert not ui.compareButton.isEnabled()
    assert ui.compareButton.toolTip == "Choose two different versions."
    comparing.choose(ui.compareFirstComboBox, "M1")
    comparing.choose(ui.compareSecondComboBox, "M2")
    volume = session.parameters.volume
    transform = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    volume.SetAndObserveTransformNodeID(transform.GetID())
    comparing.dialogs.expect("non-linear")
    comparing.click(ui.compareButton)
    assert ui.compareButton.text == "Compare on this volume"
    session.parameters.volume = None
    session.changed()
    assert ui.compareButton.toolTip == "Choose a volume in Segment first."


def test_a_volume_that_is_removed_meanwhile_is_told(comparing: Window, scene: Any) -> None:  # noqa: F811
    comparing.click(comparing.ui.compareButton)
    comparing.dialogs.expect("no longer in the scene")
    scene.Clear()
    comparing.wait_until(lambda: comparing.dialogs.shown, 60)
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
