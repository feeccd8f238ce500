"""The worklist in the window, and the suggestions that scripts may ask for, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from imaging_samples import one_line
from learning_samples import add_balls, ball_scan
from panel_samples import (
    add_drawn,
    add_proposal,
    add_scan,
    edit,
    open_workspace,
)
from slicer_program import Window, scene, window  # noqa: F401  # fixtures
from slicer_samples import slicer

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.descriptor import describe_image, distances
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(untrained_copy: Workspace) -> Workspace:
    return untrained_copy


def unfold(window: Window, workspace: Workspace) -> Any:  # noqa: F811
    session = open_workspace(window, workspace)
    window.click(window.ui.worklistCollapsibleButton, y=8)
    return session


def table(window: Window) -> list[list[str]]:  # noqa: F811
    shown = window.ui.worklistTableWidget
    return [[shown.item(row, column).text() for column in range(shown.columnCount)] for row in range(shown.rowCount)]


def test_it_lists_what_there_is_and_how_far_it_is(window: Window, workspace: Workspace, tmp_path: Path) -> None:  # noqa: F811
    add_balls(workspace, tmp_path, workspace.task("balls"), range(1, 2), Role.VALIDATION)
    one, two, _three = add_scan(11, "one"), add_scan(12, "two"), add_scan(13, "three")
    add_proposal(workspace, one, ball_scan(11)[1], "one", confidence=0.874)
    add_proposal(workspace, add_scan(14, "gone"), ball_scan(14)[1], "gone")
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("gone"))
    node = add_drawn(two, 12)
    session = unfold(window, workspace)
    session.parameters.segmentation = node
    edit(node, two)
    session.changed()
    assert table(window) == [
        ["case1", "accepted", "validation", "", "", "", ""],
        ["gone", "proposed", "", "M1", "", "", ""],
        ["one", "proposed", "", "M1", "87\u00a0%", "", ""],
        ["three", "not segmented", "", "", "", "", ""],
        ["two", "edited", "", "", "", "", ""],
    ]
    assert window.ui.worklistStateLabel.text == "1 of 5 volumes are accepted."
    assert not window.ui.openButton.enabled
    select(window, "gone")
    assert "load gone.nrrd" in window.ui.openButton.toolTip


def select(window: Window, name: str) -> None:  # noqa: F811
    rows = [row[0] for row in table(window)]
    window.ui.worklistTableWidget.selectRow(rows.index(name))


def opened(window: Window, name: str) -> tuple[str, str]:  # noqa: F811
    select(window, name)
    window.click(window.ui.openButton)
    window.wait_until(lambda: window.ui.openButton.enabled)
    parameters = window.widget.session.parameters
    segmentation = parameters.segmentation
    return parameters.volume.GetName(), segmentation.GetName() if segmentation is not None else ""


def test_volumes_are_opened_with_what_belongs_to_them(window: Window, workspace: Workspace, tmp_path: Path) -> None:  # noqa: F811
    add_balls(workspace, tmp_path, workspace.task("balls"), range(1, 2), Role.TRAIN)
    one, _two = add_scan(11, "one"), add_scan(12, "two")
    add_proposal(workspace, one, ball_scan(11)[1], "one")
    session = unfold(window, workspace)
    assert opened(window, "case1") == ("case1", "case1 accepted")
    count = slicer.mrmlScene.GetNumberOfNodes()
    assert opened(window, "two") == ("two", "")
    assert opened(window, "case1") == ("case1", "case1 accepted")
    assert slicer.mrmlScene.GetNumberOfNodes() == count  # not a second time
    assert opened(window, "one") == ("one", "one by M1")
    mine = session.parameters.segmentation
    edit(mine, one)
    opened(window, "two")
    opened(window, "one")
    assert session.parameters.segmentation is mine  # with the edit


def test_a_stored_correction_shows_dice_time_and_version(window: Window, workspace: Workspace) -> None:  # noqa: F811
    volume = add_scan(11, "one")
    add_proposal(workspace, volume, ball_scan(11)[1], "one", confidence=0.5)
    session = unfold(window, workspace)
    assert opened(window, "one") == ("one", "one by M1")
    node = session.parameters.segmentation
    edit(node, volume)
    job = session.logic.accept("balls", volume, node, "train", seconds=75)
    session.changed()
    assert table(window)[0][:2] == ["one", "being stored"]
    job.wait(timeout=60)
    case = job.mark()
    session.changed()
    assert table(window) == [["one", "accepted", "train", "M1", "50\u00a0%", f"{case.proposal_dice:.3f}", "75 s"]]


def suggest(window: Window) -> None:  # noqa: F811
    window.click(window.ui.suggestButton)
    window.wait_until(lambda: window.ui.suggestButton.enabled)


def test_the_least_sure_proposal_is_suggested_with_its_reason(window: Window, workspace: Workspace) -> None:  # noqa: F811
    for seed, confidence in ((11, 0.9), (12, 0.61), (13, 0.7)):
        volume = add_scan(seed, f"scan{seed}")
        add_proposal(workspace, volume, ball_scan(seed)[1], f"scan{seed}", confidence=confidence)
    unfold(window, workspace)
    suggest(window)
    assert window.ui.worklistStateLabel.text == (
        "scan12: its model was the least sure of it, 61\u00a0% on average (proposals: 3)."
    )
    assert window.ui.worklistTableWidget.currentRow() == 1


def test_the_most_unlike_volume_is_suggested(window: Window, workspace: Workspace, tmp_path: Path) -> None:  # noqa: F811
    add_balls(workspace, tmp_path, workspace.task("balls"), range(1, 3), Role.TRAIN)
    add_scan(11, "alike")
    bright = add_scan(12, "bright")
    slicer.util.arrayFromVolume(bright)[:] += 400
    unfold(window, workspace)
    window.choose(window.ui.suggestionComboBox, "most unlike")
    suggest(window)
    assert window.ui.worklistStateLabel.text.startswith("bright: the most unlike")
    assert "standard deviations" in window.ui.worklistStateLabel.text


def test_random_is_the_same_until_a_case_is_accepted(window: Window, workspace: Workspace) -> None:  # noqa: F811
    for seed in range(11, 15):
        add_scan(seed, f"scan{seed}")
    session = unfold(window, workspace)
    window.choose(window.ui.suggestionComboBox, "random")
    suggest(window)
    first = window.ui.worklistStateLabel.text
    assert "drawn at random (volumes: 4, seed: 0)" in first
    suggest(window)
    assert window.ui.worklistStateLabel.text == first
    assert session.logic.suggest("balls", "random").row.name in first


def test_suggestions_that_cannot_be_made_say_why(window: Window, workspace: Workspace) -> None:  # noqa: F811
    session = unfold(window, workspace)
    one_line(InputError, lambda: session.logic.suggest("balls"), "accepted or being corrected")
    add_scan(11, "one")
    one_line(InputError, lambda: session.logic.suggest("balls", "lowest confidence"), "segment volumes first")
    one_line(InputError, lambda: session.logic.suggest("balls", "most unlike"), "no case is accepted yet")
    suggest(window)
    assert "segment volumes first" in window.ui.worklistStateLabel.text


def test_distances_are_those_to_the_nearest_accepted() -> None:
    here, near, far = ((1.0, 5.0, 7.0), (1.0, 6.0, 7.0), (1.0, 9.0, 7.0))
    found = distances([near, far], [here])
    assert found[1] == pytest.approx(4 * found[0])
    assert distances([here], [near, here]) == [0]
    assert len(describe_image(ball_scan(1)[0])) == 8
