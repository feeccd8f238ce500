"""Workspaces with so many cases that the window must not wait for them: read on a thread, listed in part."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from panel_samples import open_workspace
from slicer_program import Window, scene, window  # noqa: F401  # fixtures
from slicer_samples import slicer  # noqa: F401
from test_panel_worklist import table
from workspace_samples import add_case

from MedSeqFTLib.scene import logic
from MedSeqFTLib.workspace.remembered import Remembered
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(untrained_copy: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Six cases, which count as many."""
    monkeypatch.setattr(logic, "QUICK", 3)
    for number in range(6):
        add_ball(untrained_copy, f"scan-{number}")
    return untrained_copy


def add_ball(workspace: Workspace, name: str) -> None:
    add_case(workspace, name, name.encode(), task="balls", label_voxels={})


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """Who read a case, or looked whether it has changed."""
    found: list[threading.Thread] = []
    read = Remembered.read

    def noted(self: Remembered, path: Any, *arguments: Any, **named: Any) -> Any:
        if Path(path).name == "case.json":
            found.append(threading.current_thread())
        return read(self, path, *arguments, **named)

    monkeypatch.setattr(Remembered, "read", noted)
    return found


def opened(window: Window, workspace: Workspace) -> Any:  # noqa: F811
    for panel in ("worklist", "adapt", "export"):
        button = getattr(window.ui, f"{panel}CollapsibleButton")
        if button.collapsed:
            button.collapsed = False
    return open_workspace(window, workspace)


def read(window: Window, workspace: Workspace) -> Any:  # noqa: F811
    """As `opened`, and what was opened has been read."""
    session = opened(window, workspace)
    window.wait_until(lambda: session.is_read)
    return session


def test_cases_are_read_on_a_thread_and_the_panels_say_so(
    window: Window,  # noqa: F811
    workspace: Workspace,
    readers: list[threading.Thread],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ui, gate, look = window.ui, threading.Event(), logic.SceneLogic.look

    def slow(self: logic.SceneLogic, task: str) -> None:
        gate.wait(20)
        look(self, task)

    monkeypatch.setattr(logic.SceneLogic, "look", slow)
    session = opened(window, workspace)
    assert "being read" in ui.worklistStateLabel.text
    assert not ui.worklistCollapsibleButton.enabled and not ui.correctCollapsibleButton.enabled
    gate.set()
    window.wait_until(lambda: session.is_read)
    assert [row[0] for row in table(window)] == [f"scan-{number}" for number in range(6)]
    assert ui.exportListWidget.count == 6
    assert "6" in ui.adaptPreflightLabel.text
    assert readers and threading.main_thread() not in readers


def test_what_another_process_added_appears_without_waiting(
    window: Window,  # noqa: F811
    workspace: Workspace,
    readers: list[threading.Thread],
) -> None:
    session = read(window, workspace)
    add_ball(Workspace.open(workspace.folder), "a-new-one")
    readers.clear()
    session.changed()
    assert table(window)[0][0] == "scan-0"
    window.wait_until(lambda: table(window)[0][0] == "a-new-one")
    assert window.ui.exportListWidget.count == 7
    assert readers and threading.main_thread() not in readers


def test_a_choice_reads_nothing_again(
    window: Window,  # noqa: F811
    workspace: Workspace,
    readers: list[threading.Thread],
) -> None:
    session = read(window, workspace)
    window.wait_until(lambda: not session._background.is_active)  # opening asks more than once
    readers.clear()
    window.choose(window.ui.roleComboBox, "validation")
    assert not session._background.is_active
    assert session.parameters.role == "validation"
    assert readers == []


def test_a_change_while_it_is_being_read_is_not_missed(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = read(window, workspace)
    gate, look = threading.Event(), logic.SceneLogic.look

    def slow(self: logic.SceneLogic, task: str) -> None:
        look(self, task)
        gate.wait(20)

    monkeypatch.setattr(logic.SceneLogic, "look", slow)
    session.changed()
    window.live_on()
    add_ball(workspace, "a-new-one")
    session.changed()
    gate.set()
    window.wait_until(lambda: table(window)[0][0] == "a-new-one")


def test_a_damaged_case_is_named_and_can_be_mended(window: Window, workspace: Workspace) -> None:  # noqa: F811
    path = workspace.folder / "cases" / "balls" / "scan-3" / "case.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    session = read(window, workspace)
    assert [row[0] for row in table(window)] == [f"scan-{number}" for number in range(6) if number != 3]
    assert window.ui.worklistStateLabel.text.startswith("5 of 5 volumes are accepted. ")
    assert str(path) in window.ui.worklistStateLabel.text and "audit verify" in window.ui.worklistStateLabel.text
    assert not window.ui.adaptButton.enabled and not window.ui.exportButton.enabled
    assert "damaged" in window.ui.adaptStateLabel.text
    window.dialogs.expect("damaged")
    window.click(window.ui.suggestButton)  # nothing is chosen from a list that lacks something
    path.write_bytes(whole)
    session.changed()
    window.wait_until(lambda: len(table(window)) == 6)
    assert window.ui.worklistStateLabel.text == "6 of 6 volumes are accepted."


def test_a_damaged_version_or_task_is_named_and_the_panels_go_on(window: Window, workspace: Workspace) -> None:  # noqa: F811
    for name in ("models/M0/version.json", "tasks/balls.json"):
        path = workspace.folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:50])
        session = read(window, workspace)
        assert str(path) in window.ui.taskStateLabel.text
        assert [row[0] for row in table(window)] == [f"scan-{number}" for number in range(6)]
        path.write_bytes(whole)
        session.changed()
        assert str(path) not in window.ui.taskStateLabel.text


def test_only_some_are_listed_and_the_others_are_found_by_name(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = opened(window, workspace)
    monkeypatch.setitem(type(window.widget.panels[4])._list.__globals__, "MOST", 2)
    window.wait_until(lambda: session.is_read)
    ui = window.ui
    assert [row[0] for row in table(window)] == ["scan-0", "scan-1"]
    assert ui.worklistStateLabel.text == ("6 of 6 volumes are accepted. 2 are listed: search for the others.")
    ui.worklistSearchLineEdit.text = "SCAN-5"
    assert [row[0] for row in table(window)] == ["scan-5"]
    ui.worklistTableWidget.selectRow(0)
    assert ui.openButton.enabled
    ui.worklistSearchLineEdit.text = ""
    assert "scan-5" in [row[0] for row in table(window)]  # what is chosen stays in the list


def test_some_names_are_listed_for_export_and_what_is_selected_stays(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, ui = opened(window, workspace), window.ui
    monkeypatch.setitem(type(window.widget.panels[6])._fill.__globals__, "MOST", 2)
    window.wait_until(lambda: session.is_read)
    assert names(ui) == ["scan-0", "scan-1"]
    assert ui.exportStateLabel.text == "6 to choose from. 2 are listed: search for the others."
    ui.exportListWidget.item(1).setSelected(True)
    ui.exportSearchLineEdit.text = "SCAN-5"
    assert names(ui) == ["scan-1", "scan-5"]
    ui.exportListWidget.item(1).setSelected(True)
    ui.exportSearchLineEdit.text = ""
    assert names(ui) == ["scan-0", "scan-1", "scan-5"]
    assert [str(item.text()) for item in ui.exportListWidget.selectedItems()] == ["scan-1", "scan-5"]
    assert ui.exportButton.enabled


def names(ui: Any) -> list[str]:
    return [str(ui.exportListWidget.item(row).text()) for row in range(ui.exportListWidget.count)]


def test_a_folded_panel_looks_at_nothing_until_it_is_unfolded(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, asked = read(window, workspace), []
    for name in ("worklist", "exportable", "estimate"):
        found = getattr(logic.SceneLogic, name)
        monkeypatch.setattr(
            logic.SceneLogic, name, lambda *given, found=found, name=name: asked.append(name) or found(*given)
        )
    for panel in ("worklist", "adapt", "export"):
        getattr(window.ui, f"{panel}CollapsibleButton").collapsed = True
    session.changed()
    window.live_on()
    assert asked == []
    window.ui.exportCollapsibleButton.collapsed = False
    assert asked == ["exportable"]


def test_the_plot_of_a_long_job_stays_small(window: Window) -> None:  # noqa: F811
    from MedSeqFTLib.scene.panels import chart

    plot = chart.Chart("Losses", "step", "loss")
    plot.add("loss", [(0, 5.0)])
    plot.show()
    for block in range(12):
        plot.add("loss", [(step, 1 / step) for step in range(1000 * block + 1, 1000 * block + 1001)])
    table = plot._tables["loss"].GetTable()
    assert 1000 <= table.GetNumberOfRows() == len(plot._lines["loss"]) <= chart.MOST
    steps = [table.GetColumn(0).GetValue(row) for row in range(table.GetNumberOfRows())]
    assert steps == sorted(steps) and steps[-1] == 12_000
    assert [table.GetColumn(index).GetName() for index in range(2)] == ["step", "loss"]
    plot.remove()
