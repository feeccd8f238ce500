"""Edits are written on a thread, in their order; whatever happens meanwhile, none of them is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel_samples import add_drawn, add_scan, edit, open_workspace, stored
from slicer_program import Window, scene, window  # noqa: F401  # fixtures
from slicer_samples import slicer
from test_panel_drafts import double_click, masks
from test_panel_waiting import noted

from MedSeqFTLib.errors import StorageError
from MedSeqFTLib.scene import copies, restoring
from MedSeqFTLib.scene import drafts as scene_drafts
from MedSeqFTLib.scene.marks import is_edited, is_on_disk
from MedSeqFTLib.workspace.drafts import drafts
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(untrained_copy: Workspace) -> Workspace:
    return untrained_copy


class Disk:
    """Writes drafts when it is told to; each attempt may fail."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.errors: list[Exception] = []
        self._store = scene_drafts.store_draft

    def __call__(self, *arguments: Any) -> None:
        assert self.ready.wait(20)
        if self.errors:
            raise self.errors.pop(0)
        self._store(*arguments)

    def soon(self) -> None:
        threading.Timer(0.3, self.ready.set).start()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    slow = Disk()
    monkeypatch.setattr(scene_drafts, "store_draft", slow)
    yield slow
    slow.ready.set()


def edited(session: Any, name: str = "scan", seed: int = 7) -> tuple[Any, Any]:
    """A volume and its segmentation, which is shown and was edited."""
    volume = add_scan(seed, name)
    node = add_drawn(volume, seed)
    session.parameters.segmentation = node
    edit(node, volume)
    return volume, node


def begin_to_keep(session: Any, node: Any) -> None:
    session.keeping.keep(session.logic, "balls", [node])
    assert session.keeping.is_active


def test_an_edit_is_copied_here_and_written_on_a_thread(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = open_workspace(window, workspace)
    _volume, node = edited(session)
    found = noted(monkeypatch, copies, "write_image", "pasted", "images_of", "label_values")
    session.parameters.segmentation = None
    here = threading.main_thread()
    assert {name for name, thread in found.items() if thread is here} == {"images_of", "label_values"}
    assert {name for name, thread in found.items() if thread is not here} == {"write_image", "pasted"}
    assert is_on_disk(node)


def test_the_window_lives_while_an_edit_is_written(window: Window, workspace: Workspace, disk: Disk) -> None:  # noqa: F811
    """And nothing else is shown before it is on the disk."""
    session = open_workspace(window, workspace)
    _volume, node = edited(session)
    seen: list[bool] = []
    import qt

    qt.QTimer.singleShot(50, lambda: (seen.append(bool(node.GetDisplayNode().GetVisibility())), disk.ready.set()))
    session.parameters.segmentation = None
    assert seen == [True]
    assert is_on_disk(node)
    assert not node.GetDisplayNode().GetVisibility()


def test_a_scene_closes_at_once_and_its_edit_comes_back(window: Window, workspace: Workspace, disk: Disk) -> None:  # noqa: F811
    """What is opened while it is written waits for it."""
    session = open_workspace(window, workspace)
    window.click(window.ui.worklistCollapsibleButton, y=8)
    volume, node = edited(session)
    before = masks(node, volume)
    slicer.mrmlScene.Clear()
    assert session.keeping.is_active
    assert drafts(workspace, "balls") == []
    again = add_scan()
    session.changed()
    disk.soon()
    double_click(window, "scan")
    assert session.parameters.volume is again
    for ours, theirs in zip(before, masks(session.parameters.segmentation, again), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_comes_back_is_read_on_a_thread_and_kept_again(
    window: Window,  # noqa: F811
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = open_workspace(window, workspace)
    window.click(window.ui.worklistCollapsibleButton, y=8)
    edited(session)
    slicer.mrmlScene.Clear()
    volume = add_scan()
    session.changed()
    found = noted(monkeypatch, restoring, "read_image_file", "labelled_image")
    found |= noted(monkeypatch, scene_drafts, "draft_path")
    double_click(window, "scan")
    assert threading.main_thread() not in found.values()
    node = session.parameters.segmentation
    assert is_on_disk(node)
    (before,) = drafts(workspace, "balls")
    edit(node, volume, 12)
    assert not is_on_disk(node)  # the edit was noticed
    session.parameters.segmentation = None
    (after,) = drafts(workspace, "balls")
    assert after.id != before.id
    kept = scene_drafts.load_draft(workspace, after, volume)
    np.testing.assert_array_equal(masks(kept, volume)[1], masks(node, volume)[1])


def test_the_window_does_not_go_before_all_is_written(window: Window, workspace: Workspace, disk: Disk) -> None:  # noqa: F811
    session = open_workspace(window, workspace)
    edited(session)
    disk.soon()
    window.reopen()
    assert [draft.volume for draft in drafts(workspace, "balls")] == ["scan"]


def test_accepting_waits_for_the_edit_that_is_written(window: Window, workspace: Workspace, disk: Disk) -> None:  # noqa: F811
    session = open_workspace(window, workspace)
    _volume, node = edited(session)
    begin_to_keep(session, node)
    disk.soon()
    window.click(window.ui.acceptButton)
    assert not session.keeping.is_active
    stored(window)
    assert drafts(workspace, "balls") == []
    assert not is_edited(node)


def test_what_is_edited_while_it_is_written_is_written_again(window: Window, workspace: Workspace, disk: Disk) -> None:  # noqa: F811
    session = open_workspace(window, workspace)
    volume, node = edited(session)
    begin_to_keep(session, node)
    session.keeping.keep(session.logic, "balls", [node])  # nothing has changed: not twice
    edit(node, volume, 12)
    disk.soon()
    session.parameters.segmentation = None
    (only,) = drafts(workspace, "balls")
    assert is_on_disk(node)
    kept = scene_drafts.load_draft(workspace, only, volume)
    for ours, theirs in zip(masks(node, volume), masks(kept, volume), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_several_edits_are_written_in_their_order(window: Window, workspace: Workspace, disk: Disk) -> None:  # noqa: F811
    """One of them cannot be, and is told; the others are."""
    session = open_workspace(window, workspace)
    nodes = [edited(session, name, seed)[1] for name, seed in (("one", 7),)]
    second = add_scan(8, "two")
    nodes.append(add_drawn(second, 8))
    edit(nodes[1], second)
    nodes[1].SetAttribute(scene_drafts.EDITED, "yes")
    disk.errors.append(StorageError("The disk is full."))
    disk.soon()
    window.dialogs.expect("The disk is full.")
    session.keeping.keep(session.logic, "balls", nodes)
    window.wait_until(lambda: not session.keeping.is_active)
    assert [draft.volume for draft in drafts(workspace, "balls")] == ["two"]
    assert [is_on_disk(node) for node in nodes] == [False, True]
    assert is_edited(nodes[0])


@pytest.mark.parametrize("again", [True, False])
def test_an_edit_without_a_scene_is_tried_again(
    window: Window,  # noqa: F811
    workspace: Workspace,
    disk: Disk,
    again: bool,
) -> None:
    session = open_workspace(window, workspace)
    edited(session)
    disk.errors += [StorageError("The disk is full."), StorageError("The disk is still full.")]
    slicer.mrmlScene.Clear()
    window.dialogs.expect("The disk is full.\n\nThe edit of scan drawn is in no scene any more", True)
    window.dialogs.expect("still full", again)
    disk.ready.set()
    window.wait_until(lambda: not session.keeping.is_active)
    assert [draft.volume for draft in drafts(workspace, "balls")] == ["scan"] * again


def test_what_cannot_be_written_at_the_end_is_asked_about(window: Window, workspace: Workspace, disk: Disk) -> None:  # noqa: F811
    session = open_workspace(window, workspace)
    edited(session)
    disk.errors.append(StorageError("The disk is full."))
    disk.ready.set()
    window.dialogs.expect("The disk is full.", True)
    window.reopen()
    assert [draft.volume for draft in drafts(workspace, "balls")] == ["scan"]


def test_what_only_slicer_can_save_is_kept(window: Window, workspace: Workspace) -> None:  # noqa: F811
    """It is not on a thread; all else is the same."""
    session = open_workspace(window, workspace)
    volume, node = edited(session)
    finer = add_drawn(add_scan(8, "other"), 8).GetSegmentation().GetNthSegment(0)
    segment = slicer.vtkSegment()
    segment.DeepCopy(finer)
    image = segment.GetRepresentation("Binary labelmap")
    image.SetSpacing(*(size / 2 for size in image.GetSpacing()))
    node.GetSegmentation().AddSegment(segment, "finer")
    assert copies.copied(node) is None
    before = masks(node, volume)
    session.parameters.segmentation = None
    assert is_on_disk(node)
    (only,) = drafts(workspace, "balls")
    kept = scene_drafts.load_draft(workspace, only, volume)
    np.testing.assert_array_equal(masks(kept, volume)[1], before[1])


def test_a_script_simply_waits(scene: Any, workspace: Workspace, tmp_path: Path) -> None:  # noqa: F811
    from MedSeqFTLib.scene.logic import SceneLogic

    logic, volume = SceneLogic(workspace), add_scan()
    node = add_drawn(volume)
    node.SetAttribute(scene_drafts.EDITED, "yes")
    assert logic.save_drafts("balls", [node]) == ["scan drawn"]
    assert is_on_disk(node)
    assert logic.save_drafts("balls", [node]) == []
    (workspace.folder / "drafts").rename(tmp_path / "drafts")
    (workspace.folder / "drafts").touch()
    node.SetAttribute(scene_drafts.EDITED, "yes")
    with pytest.raises(StorageError):
        logic.save_drafts("balls", [node])
    assert is_edited(node)
    assert not is_on_disk(node)
