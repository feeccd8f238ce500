"""Workspaces for the tests of panels, and how a test opens one in the window."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from learning_samples import TINY, ball_workspace
from slicer_program import Window

from MedSeqFTLib.jobs import control, system
from MedSeqFTLib.jobs.following import Following
from MedSeqFTLib.jobs.starting import start_adaptation
from MedSeqFTLib.workspace.workspace import Workspace

TESTS = Path(__file__).resolve().parent


def adapted_workspace(folder: Path) -> Workspace:
    """Three training cases and a held-out one, and what a tiny training made of them."""
    workspace = ball_workspace(folder)
    job = Following(start_adaptation(workspace, "balls", "quick", TINY))
    job.wait(timeout=120)
    job.require_finished()
    return workspace


def copied(workspace: Workspace, folder: Path) -> Workspace:
    """A workspace of one test's own."""
    shutil.copytree(workspace.folder, folder / "workspace")
    return Workspace.open(folder / "workspace")


def show(window: Window, workspace: Workspace | None, task: str = "balls", panel: str = "adapt") -> Any:
    """Open a workspace as Set-up does, choose the task, and unfold a panel. Returns the widgets."""
    window.widget.session.open(workspace.folder if workspace else None)
    window.widget.session.parameters.task = task
    window.widget.session.changed()
    button = getattr(window.ui, f"{panel}CollapsibleButton")
    if button.collapsed:
        button.collapsed = False
    window.frame.resize(460, 1600)
    window.wait_until(lambda: True)
    return window.ui


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
