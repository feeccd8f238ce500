"""Workspaces, scans and edits for the tests of panels, and how a test opens a workspace in the window."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import workspace_samples as samples
from learning_samples import LABELS, TINY, ball_scan, ball_task, ball_workspace
from proposal_samples import add_proposal as add_proposal
from slicer_program import Window
from slicer_samples import slicer

from MedSeqFTLib.jobs import control, system
from MedSeqFTLib.jobs.following import Following
from MedSeqFTLib.jobs.starting import start_adaptation
from MedSeqFTLib.scene.placing import add_segmentation
from MedSeqFTLib.scene.volumes import add_volume
from MedSeqFTLib.workspace.workspace import Workspace

TESTS = Path(__file__).resolve().parent


def adapted_workspace(folder: Path) -> Workspace:
    """Three training cases and a held-out one, and what a tiny training made of them."""
    workspace = ball_workspace(folder)
    job = Following(start_adaptation(workspace, "balls", "quick", TINY))
    job.wait(timeout=120)
    job.require_finished()
    return workspace


def untrained_workspace(folder: Path) -> Workspace:
    """A workspace with the task "balls", no case, and two versions whose files are no weights."""
    workspace = Workspace.create(folder / "workspace")
    workspace.add_task(ball_task())
    for name, parent, task in (("M0", None, None), ("M1", "M0", "balls")):
        files = samples.weights_folder(folder / name)
        workspace.publish(samples.a_version(name, files, task, parent), files)
    return workspace


def copied(workspace: Workspace, folder: Path) -> Workspace:
    """A workspace of one test's own."""
    shutil.copytree(workspace.folder, folder / "workspace")
    return Workspace.open(folder / "workspace")


def open_workspace(window: Window, workspace: Workspace | None, task: str = "balls") -> Any:
    """As the panels Set-up and Task do. Returns the session."""
    session = window.widget.session
    session.use(workspace and Workspace.open(workspace.folder))
    session.parameters.task = task
    session.changed()
    window.frame.resize(460, 1600)
    window.live_on()
    return session


def show(window: Window, workspace: Workspace | None, task: str = "balls", panel: str = "adapt") -> Any:
    """Open a workspace, choose the task, and unfold a panel. Returns the widgets."""
    open_workspace(window, workspace, task)
    button = getattr(window.ui, f"{panel}CollapsibleButton")
    if button.collapsed:
        button.collapsed = False
    window.live_on()
    return window.ui


def stored(window: Window, name: str = "scan") -> None:
    """The case was accepted in Correct, and is in the workspace now."""
    window.wait_until(lambda: window.ui.storingLabel.text.startswith(f"Case {name} is stored."), 60)


def runner_of(monkeypatch: pytest.MonkeyPatch, runner: str) -> None:
    """Jobs are done by a function of job_runners.py, in a real worker."""
    start = control.start_job
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setattr(control, "start_job", lambda *arguments, **named: start(*arguments, runner=runner, **named))


def end_workers(workspace: Workspace) -> None:
    """No worker outlives its test."""
    for folder in control.list_jobs(workspace):
        if process := folder.process():
            system.kill_tree(process.pid, process.create_time)


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
