"""The panel Adapt: real clicks, a real scene, and a real worker on tiny scans."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from learning_samples import TINY, Role, add_balls, ball_task
from panel_samples import copied, end_workers, runner_of, show
from slicer_program import Window, scene, window  # noqa: F401
from slicer_samples import slicer

from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.job import REPORT_FILE
from MedSeqFTLib.learning import settings
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(adapted: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """An adapted one, with a new case."""
    monkeypatch.setitem(settings.PRESETS, "quick", TINY)
    found = copied(adapted, tmp_path)
    add_balls(found, tmp_path, found.task("balls"), range(50, 51), Role.TRAIN)
    yield found
    end_workers(found)


def rows(tree: Any) -> list[list[str]]:
    """The texts of the upper level."""
    items = [tree.topLevelItem(row) for row in range(tree.topLevelItemCount)]
    return [[item.text(column) for column in range(tree.columnCount)] for item in items]


def plots() -> list[Any]:
    return list(slicer.util.getNodesByClass("vtkMRMLPlotChartNode"))


def test_without_a_workspace_the_panel_says_what_to_do(window: Window) -> None:  # noqa: F811
    assert not window.ui.adaptCollapsibleButton.enabled
    assert "Open a workspace" in window.ui.adaptStateLabel.text


def test_what_is_needed_is_listed_with_the_mend(window: Window, tmp_path: Path) -> None:  # noqa: F811
    empty = Workspace.create(tmp_path / "new")
    empty.add_task(ball_task())
    ui = show(window, empty)
    text = ui.adaptPreflightLabel.text
    assert "\u2718" in text and "none." in text and "role train" in text
    assert "role validation" in text
    assert not ui.adaptButton.enabled
    assert "Training cases: none." in ui.adaptButton.toolTip
    assert "unknown until" in ui.adaptEstimateLabel.text
    assert not ui.adaptOutcomeGroupBox.visible
    add_balls(empty, tmp_path, empty.task("balls"), range(2), Role.TRAIN)
    window.click(ui.adaptCheckButton)
    assert ui.adaptButton.enabled
    assert "2, of which 2 are new or corrected since." in ui.adaptPreflightLabel.text
    assert "Cases to hold out next: 2." in ui.adaptPreflightLabel.text
    assert "Cross-validation" not in ui.adaptPreflightLabel.text
    window.choose(ui.adaptPresetComboBox, "thorough")
    assert "2 new cases in 2 folds, so stage A is trained 2 times more." in ui.adaptPreflightLabel.text
    assert ui.adaptEstimateLabel.text.startswith("4875 training steps, cross-validation in 2 folds included.")


def test_learned_cases_are_not_learned_again(window: Window, adapted: Workspace) -> None:  # noqa: F811
    ui = show(window, adapted)
    assert "M1 has learned all of them" in ui.adaptPreflightLabel.text
    assert not ui.adaptButton.enabled
    assert ui.adaptVerdictLabel.text.startswith("M1 is in use: first version of balls")
    assert [row[0] for row in rows(ui.adaptOutcomeTreeWidget)] == ["balls", "balls (one model)"]
    assert sorted(row[0] for row in rows(ui.adaptPicksTreeWidget)) == ["case0", "case1", "case2"]
    assert [row[2] for row in rows(ui.adaptPicksTreeWidget)].count("kept") == 2


def test_the_report_tells_of_every_adaptation(window: Window, workspace: Workspace) -> None:  # noqa: F811
    ui = show(window, workspace, panel="export")
    window.click(ui.reportButton)
    window.wait_until(lambda: window.dialogs.opened, 60)
    text = (workspace.folder / REPORT_FILE).read_text(encoding="utf-8")
    assert "M1" in text and "stage A" in text and "case100" not in text and "4 for training, 1 held out" in text


def test_an_adaptation_from_the_click_to_the_tables(window: Window, workspace: Workspace) -> None:  # noqa: F811
    ui = show(window, workspace)
    window.choose(ui.adaptPresetComboBox, "quick")
    assert "about" in ui.adaptEstimateLabel.text
    assert window.widget.session.parameters.preset == "quick"
    layout = slicer.app.layoutManager().layout
    window.choose(ui.adaptPlotComboBox, "losses")
    window.click(ui.adaptButton)
    window.wait_until(lambda: ui.adaptButton.text == "Cancel")
    assert not ui.adaptPreflightLabel.visible
    assert ui.adaptStateLabel.text.startswith("Adapting to balls since")
    window.wait_until(lambda: "stage A" in ui.adaptProgressLabel.text, 60)
    window.switch_away()
    window.switch_to()
    window.wait_until(lambda: plots(), 60)
    assert plots()[0].GetTitle() == "Adaptation to balls"
    window.wait_until(lambda: ui.adaptButton.text == "Adapt", 60)
    assert ui.adaptVerdictLabel.text.startswith("M2 is")
    first = rows(ui.adaptOutcomeTreeWidget)[0]
    assert first[0] == "balls" and first[1] != "\u2013" and first[4] == "1"
    assert first[5] == "unclear"  # one held-out case
    assert len(rows(ui.adaptPicksTreeWidget)) == 4
    check_plot()
    window.choose(ui.adaptPlotComboBox, "Dice on held-out cases")
    assert [plot.GetTitle() for plot in plots()] == ["Dice on held-out cases"]
    bars = [plots()[0].GetNthPlotSeriesNode(index) for index in range(plots()[0].GetNumberOfPlotSeriesNodes())]
    assert [bar.GetName() for bar in bars] == ["before", "after"]
    heights = slicer.util.arrayFromTableColumn(bars[1].GetTableNode(), "after")
    assert heights[0] == pytest.approx(float(dice_of_ball(ui)), abs=6e-4)
    window.choose(ui.adaptPlotComboBox, "none")
    assert plots() == [] and slicer.app.layoutManager().layout == layout
    events = control.list_jobs(workspace)[-1].events()[0]
    assert any("balls: candidate" in event.dice for event in events)  # told while it was measured


def dice_of_ball(ui: Any) -> str:
    """After the adaptation, from the table."""
    return str(ui.adaptOutcomeTreeWidget.topLevelItem(0).child(0).text(2))


def check_plot() -> None:
    """The losses of both stages, in nodes that are not saved."""
    chart = plots()[0]
    names = [chart.GetNthPlotSeriesNode(index).GetName() for index in range(chart.GetNumberOfPlotSeriesNodes())]
    assert {"stage A: segmentation", "stage B: logits"} <= set(names)
    table = chart.GetNthPlotSeriesNode(names.index("stage A: segmentation")).GetTableNode()
    steps = [table.GetTable().GetValue(row, 0).ToDouble() for row in range(table.GetNumberOfRows())]
    assert steps == sorted(set(steps)) and steps[0] == 1 and steps[-1] == 6
    assert not table.GetSaveWithScene() and not chart.GetSaveWithScene()


def begun(window: Window, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, runner: str) -> Any:  # noqa: F811
    """A click on Adapt, and a job that another runner does."""
    monkeypatch.setitem(settings.PRESETS, "quick", {})
    runner_of(monkeypatch, f"job_runners:{runner}")
    ui = show(window, workspace)
    window.choose(ui.adaptPresetComboBox, "quick")
    window.click(ui.adaptButton)
    return ui


def test_cancel_and_resume(window: Window, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    ui = begun(window, workspace, monkeypatch, "slow")
    window.wait_until(lambda: "step" in ui.adaptProgressLabel.text)
    window.click(ui.adaptButton)
    assert ui.adaptProgressLabel.text == "Cancelling..."
    window.wait_until(lambda: ui.adaptResumeButton.visible)
    assert ui.adaptProgressLabel.text.startswith("Cancelled.")
    assert ui.adaptButton.text == "Adapt" and ui.adaptButton.enabled
    assert ui.adaptPreflightLabel.visible


def test_a_job_survives_the_scene_and_the_program(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ui = begun(window, workspace, monkeypatch, "slow")
    window.choose(ui.adaptPlotComboBox, "losses")
    window.wait_until(lambda: plots())
    window.wait_until(lambda: "step" in ui.adaptProgressLabel.text)
    slicer.mrmlScene.Clear()
    window.wait_until(lambda: plots())  # the next loss brings it back
    window.reopen()
    assert plots() == []
    ui = show(window, workspace)
    assert ui.adaptButton.text == "Cancel"
    window.wait_until(lambda: "step" in ui.adaptProgressLabel.text)
    window.choose(ui.adaptPlotComboBox, "losses")
    assert plots()
    window.widget.session.parameters.task = ""
    window.widget.session.changed()
    assert ui.adaptCollapsibleButton.enabled  # it can be cancelled whatever is chosen
    window.click(ui.adaptButton)
    window.wait_until(lambda: ui.adaptResumeButton.visible)


def test_closing_the_scene_without_a_job_changes_nothing(window: Window, workspace: Workspace) -> None:  # noqa: F811
    ui = show(window, workspace)
    slicer.mrmlScene.Clear()
    window.wait_until(lambda: ui.adaptButton.enabled)
    assert window.widget.session.parameters.preset == ui.adaptPresetComboBox.currentText == "balanced"


def test_a_worker_that_died_shows_its_last_lines(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ui = begun(window, workspace, monkeypatch, "slow")
    window.wait_until(lambda: "step" in ui.adaptProgressLabel.text)
    folder = control.running_job(workspace)
    psutil.Process(folder.process().pid).kill()
    window.wait_until(lambda: ui.adaptResumeButton.visible)
    assert "died" in ui.adaptProgressLabel.text
    assert "counting" in ui.adaptProgressLabel.text  # its log
    window.reopen()
    ui = show(window, workspace)
    assert ui.adaptResumeButton.visible and "died" in ui.adaptProgressLabel.text
    window.click(ui.adaptResumeButton)
    assert not ui.adaptResumeButton.enabled and not ui.adaptButton.enabled
    window.wait_until(lambda: ui.adaptButton.text == "Cancel")
    assert ui.adaptButton.enabled and not ui.adaptResumeButton.visible
    window.wait_until(folder.worker_lives)  # or else it would outlive this test
    window.wait_until(lambda: "step" in ui.adaptProgressLabel.text)


def test_a_workspace_that_was_moved_is_told(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ui = begun(window, workspace, monkeypatch, "slow")
    window.wait_until(lambda: "step" in ui.adaptProgressLabel.text)
    end_workers(workspace)
    window.dialogs.expect("is gone: the workspace was moved")
    workspace.folder.rename(workspace.folder.with_name("elsewhere"))
    window.wait_until(lambda: window.dialogs.shown)
    assert ui.adaptButton.text == "Adapt"
    ui = show(window, Workspace.open(workspace.folder.with_name("elsewhere")))
    assert ui.adaptResumeButton.visible


@pytest.mark.parametrize(
    ("runner", "why", "log"),
    [
        ("bug", "ZeroDivisionError: division by zero", "raise ZeroDivisionError"),
        ("missing_package", "ModuleNotFoundError: No module named 'no_such_package'", "import no_such_package"),
    ],
)
def test_a_worker_that_fails_shows_why_with_its_last_lines(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    runner: str,
    why: str,
    log: str,
) -> None:
    ui = begun(window, workspace, monkeypatch, runner)
    window.wait_until(lambda: ui.adaptResumeButton.visible)
    assert ui.adaptProgressLabel.text.startswith(why) and log in ui.adaptProgressLabel.text


def test_out_of_memory_is_told_in_the_worker_s_words(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ui = begun(window, workspace, monkeypatch, "out_of_memory")
    window.wait_until(lambda: ui.adaptResumeButton.visible)
    assert "Out of memory" in ui.adaptProgressLabel.text and "smaller patch_side" in ui.adaptProgressLabel.text


def test_another_job_on_the_workspace_prevents_the_start(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ui = show(window, workspace)
    runner_of(monkeypatch, "job_runners:slow")
    job = control.start_job(workspace, control.new_job(workspace, "pretrain", None, {}))  # as in another Slicer
    window.click(ui.adaptCheckButton)
    assert f"{job.id} is being worked on" in ui.adaptPreflightLabel.text
    assert not ui.adaptButton.enabled


def test_a_job_of_another_slicer_is_followed(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ui = show(window, workspace)
    runner_of(monkeypatch, "job_runners:slow")
    control.start_job(workspace, control.new_job(workspace, "adapt", "balls", {}))
    window.dialogs.expect("already running on this workspace (adapt balls)")
    window.click(ui.adaptButton)
    assert ui.adaptProgressLabel.text == "Starting..."
    window.wait_until(lambda: window.dialogs.shown)
    assert ui.adaptButton.text == "Adapt" and ui.adaptProgressLabel.text == ""
    window.click(ui.adaptCheckButton)
    assert ui.adaptButton.text == "Cancel"
    window.wait_until(lambda: "step" in ui.adaptProgressLabel.text)


@pytest.mark.skipif(os.name != "posix", reason="the fake program is a shell script")
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("NVIDIA H100 80GB HBM3, 81559, 80995, 550.54.15", "NVIDIA H100 80GB HBM3, 79.1 GiB of 79.6 GiB free"),
        ("NVIDIA T400, 2048, 512, 550.54.15", "Close programs that use the GPU"),
        ("NVIDIA A100, MIG, [N/A], [N/A], 550.54.15", "NVIDIA A100, MIG"),
        ("No devices were found", "none found"),
    ],
)
def test_the_gpu_is_told_by_its_driver(
    window: Window,  # noqa: F811
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    told: str,
) -> None:
    """The driver's program is a fake, which answers after a while; torch for GPUs is a pretence."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nsleep 0.3\necho '{answer}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("MedSeqFTLib.scene.panels.preflight.version_of", lambda _name: "2.9.0+cu128")
    ui = show(window, workspace)
    assert "looking..." in ui.adaptPreflightLabel.text
    window.wait_until(lambda: told in ui.adaptPreflightLabel.text)


def test_no_disk_and_no_right_to_write(window: Window, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """The disk is a fake: a full one, and a read-only one, cannot be had in a test."""
    ui = show(window, workspace)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=1))
    window.click(ui.adaptCheckButton)
    assert "0.0 GiB free" in ui.adaptPreflightLabel.text and not ui.adaptButton.enabled
    monkeypatch.setattr("os.access", lambda _folder, _mode: False)
    window.click(ui.adaptCheckButton)
    assert "cannot be written" in ui.adaptPreflightLabel.text and "copy the workspace" in ui.adaptPreflightLabel.text
