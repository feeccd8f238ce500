"""What takes long is done on a thread, so that the window lives on: reading, writing, importing."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from learning_samples import add_balls, ball_scan
from panel_samples import add_drawn, add_proposal, add_scan, open_workspace, show, stored
from slicer_program import Window, scene, window  # noqa: F401  # fixtures
from slicer_samples import slicer
from test_panel_worklist import opened

from MedSeqFTLib.errors import StorageError
from MedSeqFTLib.scene import cases, proposals
from MedSeqFTLib.scene.marks import is_edited, set_edited
from MedSeqFTLib.scene.observers import weak
from MedSeqFTLib.scene.proposals import SegmentingJob
from MedSeqFTLib.workspace.schema import Role, Segmentation
from MedSeqFTLib.workspace.workspace import Workspace

Threads = dict[str, threading.Thread]


@pytest.fixture
def workspace(untrained_copy: Workspace) -> Workspace:
    return untrained_copy


def noted(monkeypatch: pytest.MonkeyPatch, where: Any, *names: str) -> Threads:
    """By which thread these functions were called last."""
    found: Threads = {}

    def noting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            found[name] = threading.current_thread()
            return real(*arguments, **named)

        return call

    for name in names:
        monkeypatch.setattr(where, name, noting(name, getattr(where, name)))
    return found


def away_from_the_window(found: Threads, *names: str) -> bool:
    return set(found) == set(names) and threading.main_thread() not in found.values()


def test_an_accepted_case_is_written_on_a_thread(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = "label_map_of", "write_image", "write_seg_nrrd", "start_acceptance"
    session, found = open_workspace(window, workspace), noted(monkeypatch, cases, *names)
    session.parameters.segmentation = add_drawn(add_scan())
    window.click(window.ui.acceptButton)
    assert away_from_the_window(found, *names)
    stored(window)


def test_a_case_that_cannot_be_written_stays_edited(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, node = open_workspace(window, workspace), add_drawn(add_scan())
    session.parameters.segmentation = node
    set_edited(node, True)

    def full(*_arguments: Any, **_named: Any) -> None:
        raise StorageError("The disk is full.")

    monkeypatch.setattr(cases, "write_image", full)
    window.dialogs.expect("The disk is full.")
    window.click(window.ui.acceptButton)
    assert session.logic.waiting() == []
    assert is_edited(node)


def test_what_the_worklist_opens_is_read_on_a_thread(
    window: Window,  # noqa: F811
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_balls(workspace, tmp_path, workspace.task("balls"), range(1, 2), Role.TRAIN)
    add_proposal(workspace, add_scan(11, "one"), ball_scan(11)[1], "one")
    show(window, workspace, panel="worklist")
    found = noted(monkeypatch, cases, "read_volume", "read_label_map")
    assert opened(window, "case1") == ("case1", "case1 accepted")
    assert away_from_the_window(found, "read_volume", "read_label_map")
    found = noted(monkeypatch, proposals, "read_label_map")
    assert opened(window, "one") == ("one", "one by M1")
    assert away_from_the_window(found, "read_label_map")


def test_the_catalogue_is_read_on_a_thread(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    found = noted(monkeypatch, importlib.import_module("MedSeqFTLib.models.availability"), "choices")
    window.click(window.ui.foundationCollapsibleButton, y=8)
    assert away_from_the_window(found, "choices")
    assert window.ui.foundationTreeWidget.topLevelItemCount


def test_two_results_that_come_at_once_are_both_placed(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when another workspace is opened, whose job ends while the result of the first one's is being read."""
    open_workspace(window, workspace)
    panel = next(panel for panel in window.widget.panels if type(panel).__name__ == "SegmentPanel")
    gate, read = threading.Event(), proposals.read_proposal

    def slow(*arguments: Any) -> Any:
        gate.wait(20)
        return read(*arguments)

    monkeypatch.setattr(proposals, "read_proposal", slow)
    jobs = [a_finished_job(workspace, add_scan(seed, f"scan{seed}"), seed) for seed in (11, 12)]
    for job in jobs:
        panel._finished(job)
    gate.set()
    window.wait_until(lambda: len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 2)
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert sorted(node.GetName() for node in nodes) == ["scan11 by M1", "scan12 by M1"]


def a_finished_job(workspace: Workspace, volume: Any, seed: int) -> SegmentingJob:
    """A fake, whose result is real: no worker is needed to have a segmentation in the workspace."""

    class Finished(SegmentingJob):
        def __init__(self, record: Segmentation) -> None:
            self._workspace, self._volume, self._record = workspace, weak(volume), record
            self._name = record.name

        @property
        def record(self) -> Segmentation:
            return self._record

    return Finished(add_proposal(workspace, volume, ball_scan(seed)[1], f"scan{seed}"))
