"""Volumes of the scene in an anonymous workspace: none of their names reaches its files, and all is found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from panel_samples import add_drawn, add_scan, copied, edit, end_workers
from slicer_boot import scene as scene  # a fixture
from test_privacy import found
from test_scene_logic import finished

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.scene.logic import SceneLogic
from MedSeqFTLib.scene.marks import EDITED, NAME
from MedSeqFTLib.workspace.files import read_json, write_json
from MedSeqFTLib.workspace.schema import Case, WorkspaceInfo
from MedSeqFTLib.workspace.workspace import WORKSPACE_FILE, Workspace

NAMES = ["Quixote", "Don ", "Dulcinea"]


def anonymous(workspace: Workspace) -> SceneLogic:
    """As if it had been anonymous from the beginning."""
    path = workspace.folder / WORKSPACE_FILE
    write_json(path, read_json(path, WorkspaceInfo).model_copy(update={"anonymous": True}))
    return SceneLogic(Workspace.open(workspace.folder))


@pytest.fixture
def logic(scene: Any, untrained_copy: Workspace) -> SceneLogic:
    return anonymous(untrained_copy)


def test_from_an_edit_to_export_no_name_is_kept(logic: SceneLogic, tmp_path: Path) -> None:
    volume = add_scan(11, "Quixote, Don 1947")
    node = add_drawn(volume, 11)
    edit(node, volume)
    node.SetAttribute(EDITED, "yes")
    assert logic.save_drafts("balls", [node]) == [node.GetName()]
    assert found(logic.workspace.folder, NAMES) == set()
    case = finished(logic.accept("balls", volume, node, "train")).result(Case)
    assert case.id == volume.GetAttribute(NAME)
    finished(logic.revise("balls", case.id, volume, node))
    finished(logic.export("balls", [case.id], tmp_path / "out"))
    finished(logic.report())
    assert found(logic.workspace.folder, NAMES) | found(tmp_path / "out", NAMES) == set()
    row = next(row for row in logic.worklist("balls") if row.volume is volume)
    assert (row.status, row.entry and row.entry.case and row.entry.case.id) == ("accepted", case.id)


@pytest.mark.slow
def test_a_volume_is_segmented_under_one_name_whatever_the_node(scene: Any, adapted: Workspace, tmp_path: Path) -> None:
    logic = anonymous(copied(adapted, tmp_path))
    volumes = add_scan(11, "Quixote"), add_scan(11, "Dulcinea")
    jobs = [finished(logic.segment("balls", volume)) for volume in volumes]
    assert jobs[0].record == jobs[1].record  # type: ignore[attr-defined]
    node = jobs[0].load()  # type: ignore[attr-defined]
    edit(node, volumes[0])
    rows = [row for row in logic.worklist("balls") if row.entry and row.entry.proposal]
    assert [row.volume is volumes[0] for row in rows] == [True]
    case = finished(logic.accept("balls", volumes[0], node, "train")).result(Case)
    assert case.id == jobs[0].record.name  # type: ignore[attr-defined]
    assert found(logic.workspace.folder, NAMES) == set()
    end_workers(logic.workspace)


def test_an_edit_that_waits_is_found_again_in_its_scene(logic: SceneLogic) -> None:
    volume = add_scan(12, "Quixote")
    node = add_drawn(volume, 12)
    node.SetAttribute(EDITED, "yes")
    logic.save_drafts("balls", [node])
    node.GetScene().RemoveNode(node)
    row = next(row for row in logic.worklist("balls") if row.volume is volume)
    assert row.draft is not None
    assert row.draft.volume == volume.GetAttribute(NAME)
    assert found(logic.workspace.folder, NAMES) == set()


def test_a_name_that_a_script_gives_is_refused(logic: SceneLogic) -> None:
    volume = add_scan(13, "scan")
    with pytest.raises(InputError, match="anonymous"):
        logic.accept("balls", volume, add_drawn(volume, 13), "train", case_id="Quixote")
    assert found(logic.workspace.folder, NAMES) == set()
