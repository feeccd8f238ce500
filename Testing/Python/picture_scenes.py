"""What happens in the window while pictures of it are taken, one scene for each panel or pair of panels."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from learning_samples import TINY, add_balls, ball_scan, ball_task
from panel_samples import adapted_workspace, add_drawn, add_proposal, add_scan, copied, edit, end_workers, runner_of
from PySide6 import QtCore, QtWidgets
from pythonqt_layer import inside
from slicer_program import Window
from slicer_samples import slicer

from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.following import Following
from MedSeqFTLib.jobs.starting import start_adaptation
from MedSeqFTLib.learning import settings
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.workspace import Workspace

WIDTH = 500  # as a user's module panel
PANELS = ("setUp", "task", "segment", "correct", "worklist", "adapt", "export", "foundation")
FILE_NAMES = {"setUp": "set-up"}


def twice_adapted_workspace(folder: Path) -> Workspace:
    """With the versions M0, M1 and M2."""
    folder.mkdir()
    workspace = adapted_workspace(folder)
    add_balls(workspace, folder, workspace.task("balls"), range(40, 41), Role.TRAIN)
    job = Following(start_adaptation(workspace, "balls", "quick", TINY))
    job.wait(timeout=300)
    job.require_finished()
    return workspace


@dataclass
class Stage:
    """A window, and where its pictures go."""

    window: Window
    patch: pytest.MonkeyPatch
    adapted: Workspace  # not to be changed
    data: Path
    target: Path
    shade: str
    opened: list[Workspace] = field(default_factory=list)

    @property
    def ui(self) -> Any:
        return self.window.ui

    @property
    def session(self) -> Any:
        return self.window.widget.session

    def open(self, workspace: Workspace | None = None, task: str = "balls") -> Workspace:
        """A workspace, by default a copy of the adapted one, and its task."""
        found = workspace or copied(self.adapted, self.data)
        self.opened.append(found)
        self.session.use(Workspace.open(found.folder))
        self.session.parameters.task = task
        self.session.changed()
        return found

    def unfold(self, *panels: str) -> None:
        """These, and no other."""
        for name in PANELS:
            getattr(self.ui, f"{name}CollapsibleButton").collapsed = name not in panels
        self.window.frame.resize(WIDTH, 2600)  # more than enough
        for _ in range(5):
            QtWidgets.QApplication.processEvents()

    def shoot(self, panel: str, state: str) -> None:
        self.unfold(panel)
        self.save(inside(getattr(self.ui, f"{panel}CollapsibleButton")), f"{FILE_NAMES.get(panel, panel)}-{state}")

    def save(self, widget: Any, name: str) -> None:
        """Without the empty space below the last panel."""
        path = self.target / f"{name}-{self.shade}.png"
        last = inside(getattr(self.ui, f"{PANELS[-1]}CollapsibleButton"))
        bottom = last.mapTo(self.window.frame, last.rect().bottomLeft()).y() + 10
        if not widget.grab(widget.rect() & QtCore.QRect(0, 0, WIDTH, bottom)).save(str(path)):
            raise SystemExit(f"{path} cannot be written.")

    def wait(self, condition: Callable[[], object]) -> None:
        self.window.wait_until(condition, 300)

    def kill(self, button: Any) -> None:
        """The worker of a job that runs; until its panel offers to resume it with `button`."""
        self.wait(self._running)
        self._running()[0].kill()
        self.wait(lambda: button.visible)

    def _running(self) -> list[psutil.Process]:
        """Workers that have begun with their job."""
        jobs = [folder for folder in control.list_jobs(self.opened[-1]) if folder.state() == "running"]
        return [psutil.Process(process.pid) for job in jobs if (process := job.process())]

    def end(self) -> None:
        self.window.close()
        for workspace in self.opened:
            end_workers(workspace)


def set_up(stage: Stage) -> None:
    """Nothing open; a workspace; packages missing, their installation failed, running, finished."""
    ui, window = stage.ui, stage.window
    stage.wait(lambda: "Asking" not in ui.deviceLabel.text)
    stage.shoot("setUp", "empty")
    stage.open()
    ui.systemGroupBox.collapsed = False
    stage.shoot("setUp", "ready")
    absent, find = {"peft", "monai"}, importlib.util.find_spec
    stage.patch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in absent else find(name, *rest))
    window.reopen()
    stage.wait(lambda: "Asking" not in window.ui.deviceLabel.text)
    stage.shoot("setUp", "missing")
    window.installers.fails = RuntimeError("pip ended with exit code 1: no connection.")
    window.dialogs.expect("These packages will be downloaded")
    window.dialogs.expect("exit code 1")
    window.click(window.ui.installButton)
    stage.wait(lambda: "exit code 1" in window.ui.installLabel.text)
    stage.shoot("setUp", "failed")
    window.installers.fails = None
    window.installers.calls.clear()
    window.click(window.ui.installButton)
    stage.wait(lambda: window.installers.calls)
    stage.shoot("setUp", "running")
    absent.clear()
    window.installers.finish()
    stage.wait(lambda: "can be imported" in window.ui.installLabel.text)
    stage.shoot("setUp", "finished")


def task(stage: Stage) -> None:
    """No task yet; a new one; versions; comparing two, cut short and finished."""
    ui, window = stage.ui, stage.window
    stage.shoot("task", "empty")
    stage.open(Workspace.create(stage.data / "new"), "")
    add_drawn(add_scan(17, "Scan-17"), 17)
    stage.unfold("task")
    window.click(ui.newTaskButton)
    window.choose(ui.newTaskSegmentationSelector, "Scan-17 drawn")
    window.type(ui.newTaskNameLineEdit, "balls")
    window.choose(ui.newTaskModalityComboBox, "MR")
    stage.shoot("task", "new")
    window.click(ui.newTaskButton)
    slicer.mrmlScene.Clear()
    stage.open()
    stage.session.parameters.volume = add_scan(18, "Scan-18")
    stage.session.changed()
    inside(ui.lineageTable).setCurrentCell(2, 0)
    stage.shoot("task", "ready")
    window.click(ui.compareButton)
    stage.shoot("task", "running")
    stage.kill(ui.compareResumeButton)
    stage.shoot("task", "failed")
    window.click(ui.compareResumeButton)
    stage.wait(lambda: ui.compareTable.visible)
    stage.shoot("task", "finished")


def work(stage: Stage) -> None:
    """Segment, Correct and Worklist: a volume is segmented, corrected and accepted; a worker dies."""
    ui, window = stage.ui, stage.window
    for panel in ("segment", "correct", "worklist"):
        stage.shoot(panel, "empty")
    workspace = stage.open()
    volumes = [add_scan(seed, f"Scan-{seed}") for seed in (17, 18, 19)]
    add_proposal(workspace, volumes[1], ball_scan(18)[1], "Scan-18", confidence=0.71)
    stage.session.parameters.volume = volumes[0]
    stage.shoot("segment", "ready")
    window.click(ui.segmentButton)
    stage.shoot("segment", "running")
    stage.wait(lambda: ui.segmentButton.text == "Segment" and "being read" not in ui.segmentButton.toolTip)
    stage.shoot("segment", "finished")
    correct(stage, volumes[0])
    stage.session.parameters.volume = volumes[2]
    stage.unfold("segment", "correct")
    window.click(ui.newSegmentationButton)
    stage.shoot("correct", "failed")
    stage.session.parameters.segmentation = None
    stage.unfold("segment")
    window.click(ui.segmentButton)
    stage.kill(ui.segmentResumeButton)
    stage.shoot("segment", "failed")


def correct(stage: Stage, volume: Any) -> None:
    """An edit is accepted, and the next case suggested."""
    ui, window = stage.ui, stage.window
    edit(stage.session.parameters.segmentation, volume)
    stage.unfold("correct")
    stage.wait(lambda: ui.acceptButton.isEnabled())
    stage.shoot("correct", "ready")
    window.click(ui.acceptButton)
    stage.shoot("correct", "running")
    stage.wait(lambda: "is stored" in ui.storingLabel.text)
    stage.shoot("correct", "finished")
    stage.unfold("worklist")
    window.click(ui.suggestButton)
    stage.wait(lambda: ui.suggestButton.enabled)
    stage.shoot("worklist", "ready")
    stage.unfold("segment", "correct", "worklist")
    stage.save(window.frame, "window")


def adapt(stage: Stage) -> None:
    """Nothing accepted; ready; running; its worker killed, with a runner that goes on for minutes; a real one."""
    ui, window = stage.ui, stage.window
    stage.patch.setitem(settings.PRESETS, "quick", TINY)
    empty = Workspace.create(stage.data / "new")
    empty.add_task(ball_task())
    stage.open(empty)
    stage.unfold("adapt")
    stage.wait(lambda: "looking" not in ui.adaptPreflightLabel.text)
    stage.shoot("adapt", "empty")
    workspace = stage.open()
    (stage.data / "scans").mkdir()
    add_balls(workspace, stage.data / "scans", workspace.task("balls"), range(50, 51), Role.TRAIN)
    window.choose(ui.adaptPresetComboBox, "quick")
    stage.session.changed()
    stage.wait(lambda: "looking" not in ui.adaptPreflightLabel.text)
    stage.shoot("adapt", "ready")
    with pytest.MonkeyPatch.context() as patch:
        runner_of(patch, "job_runners:slow")
        window.click(ui.adaptButton)
        stage.wait(lambda: "left" in ui.adaptProgressLabel.text)
        stage.shoot("adapt", "running")
        stage.kill(ui.adaptResumeButton)
        stage.shoot("adapt", "failed")
    window.click(ui.adaptButton)
    stage.wait(lambda: ui.adaptVerdictLabel.text.startswith("M3") and ui.adaptButton.text == "Adapt")
    stage.shoot("adapt", "finished")


def export(stage: Stage) -> None:
    """Nothing there; ready; running; finished, with the report."""
    ui, window = stage.ui, stage.window
    empty = Workspace.create(stage.data / "new")
    empty.add_task(ball_task())
    stage.open(empty)
    stage.shoot("export", "empty")
    stage.open()
    results = stage.data / "results"
    results.mkdir()
    ui.exportDirectoryButton.directory = str(results)
    stage.unfold("export")
    inside(ui.exportListWidget).selectAll()
    stage.shoot("export", "ready")
    window.click(ui.exportButton)
    stage.shoot("export", "running")
    stage.wait(lambda: ui.exportButton.text == "Export" and ui.exportButton.enabled)
    window.click(ui.reportButton)
    stage.wait(lambda: ui.reportButton.text == "Report" and ui.reportButton.enabled)
    stage.shoot("export", "finished")


def foundation(stage: Stage) -> None:
    """The list."""
    stage.shoot("foundation", "ready")


SCENES: dict[str, Callable[[Stage], None]] = {
    "set-up": set_up,
    "task": task,
    "work": work,
    "adapt": adapt,
    "export": export,
    "foundation": foundation,
}
