"""The audit log: what is written down, and that nothing can be altered without being found."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from audit_damage import cut, remove_line, replace
from typer.testing import CliRunner
from workspace_samples import a_task, an_audited_workspace, python, tree

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.errors import StorageError, WorkspaceError
from MedSeqFTLib.workspace import audit, audit_check, verification
from MedSeqFTLib.workspace.archive import export_workspace
from MedSeqFTLib.workspace.audit import AUDIT_FILE, FIRST, AuditEntry, entries
from MedSeqFTLib.workspace.audit_check import verify
from MedSeqFTLib.workspace.audit_head import HEAD_FILE, AuditHead, read_head, write_head
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return an_audited_workspace(tmp_path)


def acts(workspace: Workspace) -> list[str]:
    return [entry.act for entry, _ in entries(workspace)]


def test_every_act_is_written_down_with_who_and_why(workspace: Workspace) -> None:
    found = [entry for entry, _ in entries(workspace)]
    assert [(entry.act, entry.subject) for entry in found] == [
        ("log begun", "workspace"),
        ("task added", "brain"),
        ("case accepted", "brain/case1"),
        ("version made", "M1"),
        ("promoted", "M1 for brain"),
        ("case accepted", "brain/case2"),
        ("version made", "M2"),
        ("promoted", "M2 for brain"),
        ("rolled back", "brain"),
    ]
    assert [entry.number for entry in found] == list(range(1, 10))
    assert (found[-1].who, found[-1].reason) == ("reader", "worse on last week's scans")
    assert found[2].who == "reader"


def test_each_line_holds_the_hash_of_the_line_before(workspace: Workspace) -> None:
    pairs = list(entries(workspace))
    assert [entry.previous for entry, _ in pairs] == [FIRST, *(sha256 for _, sha256 in pairs[:-1])]


def test_nothing_is_found_where_nothing_was_altered(workspace: Workspace) -> None:
    before = tree(workspace.folder)
    result = verify(workspace)
    assert result.problems == ()
    assert (result.lines, result.head) == (9, list(entries(workspace))[-1][1])
    assert tree(workspace.folder) == before


@pytest.mark.parametrize(
    ("alter", "found"),
    [
        (lambda w: replace(w.folder / AUDIT_FILE, b"reason 1", b"reason 9"), "line 5: it was altered"),
        (lambda w: replace(w.folder / AUDIT_FILE, b"last week", b"past week"), "line 9: it was altered"),
        (lambda w: remove_line(w, 3), "line 3: a line before it was altered or taken out"),
        (
            lambda w: remove_line(w, 9),
            "current.json is not what the audit log says: its newest line may be the missing",
        ),
        (lambda w: remove_line(w, 2, 9), "is not in the audit log"),
        (lambda w: replace(w.folder / AUDIT_FILE, b'"number":3', b'"number":x'), "line 3 is damaged"),
        (lambda w: remove_line(w, 9), "audit.jsonl: it was cut off: it ends with line 8, and 9 lines were written"),
        (lambda w: (w.folder / AUDIT_FILE).unlink(), "audit.jsonl: it was cut off: it is missing or empty"),
        (lambda w: replace(w.folder / HEAD_FILE, b'"lines": 9', b'"lines": 8'), "audit-head.json is damaged"),
        (lambda w: write_head(w.folder, 9, "0" * 64), "audit.jsonl: line 9 is another one than was written"),
        (lambda w: replace(case_file(w), b'"train"', b'"validation"'), "case1/case.json was altered"),
        (lambda w: shutil.rmtree(case_file(w).parent), "cases/brain/case1/case.json is missing"),
        (
            lambda w: shutil.copytree(case_file(w).parent, case_file(w).parents[1] / "case3"),
            "case3/case.json is not in",
        ),
        (lambda w: (case_file(w).parent / "image.nrrd").write_bytes(b"other"), "image.nrrd is damaged"),
        (lambda w: (w.folder / "models/M1/backbone.safetensors").unlink(), "backbone.safetensors"),
        (lambda w: (w.folder / "models/current.json").unlink(), "models/current.json is missing"),
        (lambda w: replace(w.folder / "tasks/brain.json", b"grey", b"gray"), "tasks/brain.json was altered"),
    ],
)
def test_whatever_is_altered_is_found(workspace: Workspace, alter: Callable[[Workspace], object], found: str) -> None:
    alter(workspace)
    problems = verify(workspace).problems
    assert any(found in problem for problem in problems), problems


def case_file(workspace: Workspace) -> Path:
    return workspace.folder / "cases" / "brain" / "case1" / "case.json"


def test_an_older_state_that_is_put_back_is_found(workspace: Workspace) -> None:
    """Although "as it was before the newest act" is what an interruption leaves: only one act can be interrupted."""
    pointers = workspace.folder / "models" / "current.json"
    older = pointers.read_bytes()
    workspace.promote("M2", "reader", "again")
    workspace.rollback("brain", "reader", "and back")
    pointers.write_bytes(older)
    assert any("current.json was altered" in problem for problem in verify(workspace).problems)


KILLED = """
import os, signal, sys
from MedSeqFTLib.workspace import workspace as module
from MedSeqFTLib.workspace.workspace import Workspace
module.write_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Workspace.open(sys.argv[1]).promote("M2", "reader", "killed")
"""


def test_an_act_that_was_interrupted_is_no_alteration(workspace: Workspace) -> None:
    """A real process is killed between the line and the deed."""
    before = workspace.pointers()
    process = python(KILLED, workspace.folder)
    process.communicate()
    assert process.returncode == -9
    assert acts(workspace)[-1] == "promoted"
    assert workspace.pointers() == before
    assert verify(workspace).problems == ()
    workspace.promote("M2", "reader", "once more")
    assert acts(workspace)[-3:] == ["promoted", "not done", "promoted"]
    assert verify(workspace).problems == ()


def test_a_torn_line_is_removed_by_the_next_writer(workspace: Workspace) -> None:
    with (workspace.folder / AUDIT_FILE).open("ab") as file:
        file.write(b'{"number": 10, "wh')
    assert verify(workspace).problems == ()
    workspace.promote("M2", "reader", "after a power cut")
    assert verify(workspace).problems == ()


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_log_that_was_cut_within_its_newest_line_is_found(workspace: Workspace, tmp_path: Path, kept: int) -> None:
    """The act of that line changed no document: nothing else tells of it."""
    export_workspace(workspace, tmp_path / "backup.zip")
    whole = (workspace.folder / AUDIT_FILE).read_bytes()
    cut(workspace, kept)
    problems = verify(workspace).problems
    assert problems == ("audit.jsonl: it was cut off: it ends with line 9, and 10 lines were written.",)
    before = workspace.pointers()
    with pytest.raises(WorkspaceError, match=r"cut off.*Restore it from a backup.*remove audit-head.json"):
        workspace.promote("M2", "reader", "the trace would be gone")
    assert workspace.pointers() == before and verify(workspace).problems == problems
    (workspace.folder / AUDIT_FILE).write_bytes(whole)
    assert verify(workspace).problems == ()
    cut(workspace, kept)
    (workspace.folder / HEAD_FILE).unlink()  # a person has decided to go on without the line
    workspace.promote("M2", "reader", "")
    assert verify(workspace).problems == ()


KILLED_BEFORE_THE_HEAD = """
import os, signal, sys
from MedSeqFTLib.workspace import audit
from MedSeqFTLib.workspace.workspace import Workspace
audit.write_head = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Workspace.open(sys.argv[1]).promote("M2", "reader", "killed")
"""


def test_a_log_may_be_ahead_of_its_head_by_what_a_killed_writer_began(workspace: Workspace) -> None:
    process = python(KILLED_BEFORE_THE_HEAD, workspace.folder)
    process.communicate()
    assert process.returncode == -9 and acts(workspace)[-1] == "promoted"
    assert verify(workspace).problems == ()
    workspace.promote("M2", "reader", "once more")
    assert acts(workspace)[-3:] == ["promoted", "not done", "promoted"]
    assert verify(workspace).problems == ()


def test_a_log_without_head_is_one_of_an_older_program(workspace: Workspace) -> None:
    (workspace.folder / HEAD_FILE).unlink()
    assert verify(workspace).problems == ()
    workspace.promote("M2", "reader", "")
    assert read_head(workspace.folder) == AuditHead(lines=10, sha256=verify(workspace).head)


def test_verifying_beside_a_writer_raises_no_alarm(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head is read before the log: what is written in between only makes the log longer."""
    read = audit_check.each_line

    def later(opened: Workspace) -> Iterator[tuple[AuditEntry | WorkspaceError, str]]:
        workspace.promote("M2", "reader", "meanwhile")
        return read(opened)

    monkeypatch.setattr(audit_check, "each_line", later)
    assert audit_check.read_log(workspace).problems == ()


def test_a_workspace_of_an_older_program_is_taken_as_it_is(workspace: Workspace) -> None:
    (workspace.folder / AUDIT_FILE).unlink()
    (workspace.folder / HEAD_FILE).unlink()
    workspace.promote("M2", "reader", "first act that is written down")
    assert acts(workspace) == ["log begun", "promoted"]
    assert verify(workspace).problems == ()


def test_without_room_for_the_line_nothing_is_done(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    before = workspace.pointers()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit.os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        workspace.promote("M2", "reader", "no room")
    monkeypatch.undo()
    assert workspace.pointers() == before


@pytest.mark.parametrize("left", [b"", b'{"schema_version":1,"numb'])
def test_a_log_whose_first_line_could_not_be_written_is_begun_again(tmp_path: Path, left: bytes) -> None:
    """The disk was full, or the power failed: a workspace to which nothing could be added any more would be lost."""
    workspace = Workspace.create(tmp_path / "workspace")
    (workspace.folder / AUDIT_FILE).write_bytes(left)
    workspace.add_task(a_task())
    assert acts(workspace) == ["log begun", "task added"]
    assert verify(workspace).problems == ()


def test_a_damaged_end_of_the_log_stops_further_acts(workspace: Workspace) -> None:
    with (workspace.folder / AUDIT_FILE).open("ab") as file:
        file.write(b"not a line of the log\n")
    with pytest.raises(WorkspaceError, match="last line is damaged"):
        workspace.promote("M2", "reader", "")


def test_long_lines_are_read_back_whole(workspace: Workspace) -> None:
    workspace.promote("M2", "reader", "because " * 20_000)
    workspace.rollback("brain", "reader", "")
    assert verify(workspace).problems == ()


def test_the_command_tells_what_was_altered(workspace: Workspace) -> None:
    arguments = ["--workspace", str(workspace.folder)]
    result = CliRunner().invoke(app, ["audit", "verify", *arguments])
    assert result.exit_code == 0, result.output
    assert "Nothing was altered: 9 lines, newest hash" in result.stdout
    listed = CliRunner().invoke(app, ["audit", "list", "--last", "2", "--json", *arguments])
    assert [entry["act"] for entry in json.loads(listed.stdout)] == ["promoted", "rolled back"]
    remove_line(workspace, 9)
    result = CliRunner().invoke(app, ["audit", "verify", *arguments])
    assert result.exit_code == 1
    assert "models/current.json is not what the audit log says: its newest line may be the missing" in result.stdout


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'"number":3', b'"number":x', "Invalid JSON"),
        (b'"act":"case accepted"', b'"act":"case acceptee"', "field act"),
        (b'"subject":"brain/case1"', b'"subject":"brain/case9"', "its text does not fit its checksum"),
        (b'"subject":"brain/case1"', b'"subject":"\xff\xfe"', "invalid unicode"),
    ],
)
def test_the_list_names_a_damaged_line_and_shows_the_others(
    workspace: Workspace, old: bytes, new: bytes, why: str
) -> None:
    replace(workspace.folder / AUDIT_FILE, old, new)
    arguments = ["--workspace", str(workspace.folder)]
    listed = CliRunner().invoke(app, ["audit", "list", "--json", *arguments])
    assert listed.exit_code == 1
    assert [entry["number"] for entry in json.loads(listed.stdout)] == [1, 2, *range(4, 10)]
    named, advice = listed.stderr.splitlines()
    assert re.search(rf"audit\.jsonl: line 3 is damaged \(.*({why}).*\)\. Restore", named), named
    assert "left out above: 1" in advice and "medseqft audit verify" in advice
    table = CliRunner().invoke(app, ["audit", "list", *arguments])
    assert table.exit_code == 1 and "rolled back" in table.stdout
    verified = CliRunner().invoke(app, ["audit", "verify", *arguments])
    assert verified.exit_code == 1 and re.search(r"line 3\b", verified.stdout), verified.stdout


def test_the_names_that_the_log_answers_for_are_those_that_it_finds(workspace: Workspace) -> None:
    names = {path.relative_to(workspace.folder).as_posix() for path in workspace.folder.rglob("*") if path.is_file()}
    assert {name for name in names if audit.answers_for(name)} == set(audit.present(workspace))
    assert not audit.answers_for("cases/brain/.tmp-1/case.json")
    assert not audit.answers_for("models/M1/deeper/version.json")


@pytest.mark.parametrize("batch", [1, verification._OPENING * 2, verification._BATCH])  # a file each; few; all of them
def test_every_file_is_read_however_they_are_shared_among_threads(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(verification, "_BATCH", batch)
    files = [file.path for file in verification.recorded_files(workspace)[0]]
    told: list[tuple[int, int]] = []
    good = verification.verify_recorded(workspace, lambda done, total: told.append((done, total)))
    size = sum(path.stat().st_size for path in files)
    assert good == verification.Verified(len(files), size, ())
    assert told[-1] == (size, size) and len(told) == len(files)
    for path in files:
        path.write_bytes(b"x" + path.read_bytes()[1:])
    bad = verification.verify_recorded(workspace).problems
    assert len(bad) == len(files) and all(str(path) in problem for path, problem in zip(files, bad, strict=True))
