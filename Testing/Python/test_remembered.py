"""Documents that were read before: quick to list again, and never older than their files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import workspace_samples as samples

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.workspace import remembered
from MedSeqFTLib.workspace.cases import revise_case
from MedSeqFTLib.workspace.files import sha256_of, write_json
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Three cases, all of whose files count as settled."""
    monkeypatch.setattr(remembered, "_SETTLED", -1e9)
    made = Workspace.create(tmp_path / "workspace")
    made.add_task(samples.a_task())
    for name in ("a", "b", "c"):
        samples.add_case(made, name, name.encode())
    return Workspace.open(made.folder)


def ids(workspace: Workspace) -> list[str]:
    return [case.id for case in workspace.cases("brain")]


def test_what_did_not_change_is_not_read_again(workspace: Workspace) -> None:
    first = workspace.cases("brain")
    reads = workspace.remembered.reads
    again = workspace.cases("brain")
    assert workspace.remembered.reads == reads
    assert all(one is other for one, other in zip(first, again, strict=True))


def test_another_process_may_add_correct_and_remove(workspace: Workspace, tmp_path: Path) -> None:
    assert ids(workspace) == ["a", "b", "c"]
    other = Workspace.open(workspace.folder)
    samples.add_case(other, "d", b"d")
    file = tmp_path / "new"
    file.write_bytes(b"corrected")
    changed = other.case("brain", "b").model_copy(update={"segmentation_sha256": sha256_of(file)})
    revise_case(other, changed, file)
    reads = workspace.remembered.reads
    assert ids(workspace) == ["a", "b", "c", "d"]
    assert workspace.remembered.reads == reads + 2
    assert workspace.cases("brain")[1].segmentation_sha256 == sha256_of(file)
    os.rename(workspace.folder / "cases" / "brain" / "a", tmp_path / "a")
    assert ids(workspace) == ["b", "c", "d"]


def test_damage_is_found_whatever_was_remembered(workspace: Workspace) -> None:
    workspace.cases("brain")
    path = workspace.folder / "cases" / "brain" / "b" / "case.json"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(WorkspaceError, match=r"case\.json is damaged"):
        workspace.cases("brain")


def test_same_size_and_time_are_no_proof(workspace: Workspace) -> None:
    """The time of a file can be set; that of its last change of any kind cannot."""
    workspace.cases("brain")
    path = workspace.folder / "cases" / "brain" / "b" / "case.json"
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"train"', b'"tra1n"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(WorkspaceError, match="role"):
        workspace.cases("brain")


def test_what_was_changed_just_now_is_read_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "_SETTLED", 1e9)
    fresh = Workspace.open(workspace.folder)
    fresh.cases("brain")
    reads = fresh.remembered.reads
    fresh.cases("brain")
    assert fresh.remembered.reads == reads + 3


def test_as_listed_asks_the_disk_for_nothing_that_was_listed(workspace: Workspace) -> None:
    with workspace.remembered.as_listed():
        assert ids(workspace) == ["a", "b", "c"]  # never listed: it is looked at
    samples.add_case(Workspace.open(workspace.folder), "d", b"d")
    with workspace.remembered.as_listed():
        assert ids(workspace) == ["a", "b", "c"]
    assert ids(workspace) == ["a", "b", "c", "d"]


def test_as_listed_shows_what_belongs_together(workspace: Workspace) -> None:
    """While somebody lists anew, neither half of the news is shown, nor derived from."""
    kept = workspace.remembered
    assert kept.derived("count", lambda: len(ids(workspace))) == 3
    kept.complete()
    samples.add_case(Workspace.open(workspace.folder), "d", b"d")
    assert ids(workspace) == ["a", "b", "c", "d"]
    with kept.as_listed():
        assert ids(workspace) == ["a", "b", "c"]
        assert kept.derived("count", lambda: len(ids(workspace))) == 3
    assert kept.derived("count", lambda: len(ids(workspace))) == 4
    kept.complete()
    with kept.as_listed():
        assert ids(workspace) == ["a", "b", "c", "d"]
        assert kept.derived("count", lambda: 0) == 4


def test_a_task_that_is_rewritten_is_read_again(workspace: Workspace) -> None:
    task = workspace.task("brain")
    write_json(workspace.folder / "tasks" / "brain.json", task.model_copy(update={"description": "other"}))
    assert workspace.task("brain").description == "other"
