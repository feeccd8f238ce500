"""Verifying an audit log in which lines are damaged, altered or taken out: what is named, and who is accused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_damage import cut, remove_line, replace
from workspace_samples import an_audited_workspace

from MedSeqFTLib.workspace import audit
from MedSeqFTLib.workspace.audit import AUDIT_FILE, AuditEntry
from MedSeqFTLib.workspace.audit_check import verify
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return an_audited_workspace(tmp_path)


GARBLED = b"\xff\x00 no line of a log"
BROKEN = "The chain of hashes is broken there."


def alter_lines(workspace: Workspace, lines: dict[int, Callable[[bytes], bytes]]) -> None:
    path = workspace.folder / AUDIT_FILE
    found = path.read_bytes().splitlines(keepends=True)
    for number, alter in lines.items():
        found[number - 1] = alter(found[number - 1])
    path.write_bytes(b"".join(found))


def garble(workspace: Workspace, *numbers: int) -> None:
    alter_lines(workspace, dict.fromkeys(numbers, lambda line: GARBLED + b"\n"))


def found_in(workspace: Workspace) -> list[str]:
    """What is wrong, without the folder and the reason in brackets."""
    problems = verify(workspace).problems
    return [
        re.sub(r"\(.*\)", "(why)", problem.replace(f"{workspace.folder / AUDIT_FILE}", "log")) for problem in problems
    ]


def damaged(number: int) -> str:
    return f"log: line {number} is damaged (why). Restore the file from a backup. {BROKEN}"


def untold(document: str, what: str = "damaged") -> str:
    return f"{document} is not in the audit log: its line may be the {what} one."


CASE1, CASE2 = (f"cases/brain/case{number}/case.json" for number in (1, 2))
POINTERS = "models/current.json"


def test_a_damaged_line_hides_none_of_those_after_it(workspace: Workspace) -> None:
    garble(workspace, 3)
    assert found_in(workspace) == [damaged(3), untold(CASE1)]
    assert verify(workspace).lines == 9


def test_a_damaged_line_whose_documents_a_later_one_speaks_of_harms_no_document(workspace: Workspace) -> None:
    garble(workspace, 5)
    assert found_in(workspace) == [damaged(5)]


@pytest.mark.parametrize("second", [4, 6])
def test_all_damaged_lines_are_named(workspace: Workspace, second: int) -> None:
    garble(workspace, 3, second)
    documents = [CASE1, {4: "models/M1/version.json", 6: CASE2}[second]]
    assert found_in(workspace) == [damaged(3), damaged(second), *map(untold, documents)]


def test_a_document_whose_newest_lines_are_damaged_is_not_accused(workspace: Workspace) -> None:
    garble(workspace, 8, 9)
    doubted = f"{POINTERS} is not what the audit log says: its newest line may be the damaged one."
    assert found_in(workspace) == [damaged(8), damaged(9), doubted]


def test_a_log_that_is_damaged_throughout_accuses_nothing_else(workspace: Workspace) -> None:
    garble(workspace, *range(1, 10))
    problems = found_in(workspace)
    assert problems[:9] == [damaged(number) for number in range(1, 10)]
    assert len(problems) == 9 + len(audit.present(workspace))
    assert all("its line may be the damaged one" in problem for problem in problems[9:])


def test_documents_are_accused_where_no_line_in_doubt_may_tell_of_them(workspace: Workspace) -> None:
    garble(workspace, 3)
    replace(workspace.folder / CASE2, b'"train"', b'"validation"')
    replace(workspace.folder / POINTERS, b"M1", b"M2")
    (workspace.folder / "tasks/other.json").write_bytes(b"{}")
    assert f"{CASE2} was altered: it is not what the audit log says." in found_in(workspace)
    assert f"{POINTERS} was altered: it is not what the audit log says." in found_in(workspace)
    assert untold("tasks/other.json") in found_in(workspace)  # nobody can know what the damaged line said


def test_an_altered_line_that_is_valid_is_named_and_vouches_for_nothing(workspace: Workspace) -> None:
    replace(workspace.folder / AUDIT_FILE, b'"subject":"brain/case1"', b'"subject":"brain/case9"')
    line = f"audit.jsonl, line 3: it was altered: its text does not fit its checksum. {BROKEN}"
    assert found_in(workspace) == [line, untold(CASE1, "altered")]


def resealed(line: bytes) -> bytes:
    """Altered by somebody who knows how the checksum is made."""
    entry = AuditEntry.model_validate_json(line).model_copy(update={"reason": "another"})
    return entry.with_checksum().model_dump_json().encode() + b"\n"


def test_a_broken_link_between_lines_that_fit_their_checksums_is_named_once(workspace: Workspace) -> None:
    garble(workspace, 3)
    alter_lines(workspace, {6: resealed})
    broken = "audit.jsonl, line 7: a line before it was altered or taken out."
    assert found_in(workspace) == [damaged(3), broken, untold(CASE1, "altered or damaged")]


def test_a_line_that_is_taken_out_after_a_damaged_one_is_found(workspace: Workspace) -> None:
    garble(workspace, 3)
    remove_line(workspace, 6)
    missing = "audit.jsonl, line 6: a line before it was altered or taken out."
    assert found_in(workspace) == [
        damaged(3),
        missing,
        *(untold(case, "damaged or missing") for case in (CASE1, CASE2)),
    ]


def test_a_line_that_is_taken_out_beside_a_damaged_one_is_found(workspace: Workspace) -> None:
    garble(workspace, 3)
    remove_line(workspace, 4)
    missing = "audit.jsonl, line 4: a line before it was altered or taken out."
    assert missing in found_in(workspace)


def test_a_line_that_was_put_between_two_others_is_found(workspace: Workspace) -> None:
    alter_lines(workspace, {3: lambda line: line + GARBLED + b"\n", 4: resealed})
    broken = "audit.jsonl, line 6: a line before it was altered or taken out."
    assert found_in(workspace) == [damaged(4), broken]


def test_a_line_that_was_taken_out_is_named_once_and_is_no_cut(workspace: Workspace) -> None:
    remove_line(workspace, 3)
    missing = "audit.jsonl, line 3: a line before it was altered or taken out."
    assert found_in(workspace) == [missing, untold(CASE1, "missing")]


def test_a_log_with_a_damaged_line_that_was_cut_is_found(workspace: Workspace) -> None:
    garble(workspace, 3)
    cut(workspace, kept=20)
    problems = found_in(workspace)
    assert problems[:2] == [
        damaged(3),
        "audit.jsonl: it was cut off: it ends with line 8, and 9 lines were written.",
    ]
    doubted = f"{POINTERS} is not what the audit log says: its newest line may be the missing one."
    assert problems[2:] == [untold(CASE1, "damaged or missing"), doubted]


def test_a_line_that_only_a_newer_program_can_read_breaks_no_chain(workspace: Workspace) -> None:
    path = workspace.folder / AUDIT_FILE
    with path.open("ab") as file:
        entry = AuditEntry(
            number=10, who="a", act="exported", subject="b", documents={}, previous=verify(workspace).head
        )
        file.write(entry.model_dump_json().replace("exported", "sent away").encode() + b"\n")
        file.flush()
        newest = AuditEntry(
            number=11, who="a", act="exported", subject="b", documents={}, previous=verify(workspace).head
        )
        file.write(newest.with_checksum().model_dump_json().encode() + b"\n")
    (problem,) = found_in(workspace)
    assert "line 10 is damaged" in problem and BROKEN not in problem


def test_an_act_that_was_interrupted_is_no_alteration_beside_a_damaged_line(workspace: Workspace) -> None:
    pointers = workspace.pointers().model_copy(update={"tasks": {"brain": "M2"}})
    with workspace.lock():
        audit.note(workspace, "promoted", "M2 for brain", {workspace.folder / POINTERS: pointers})
    garble(workspace, 5)
    assert found_in(workspace) == [damaged(5)]
    garble(workspace, 9)  # what the document was like before the newest act
    doubted = f"{POINTERS} is not what the audit log says: its newest line may be the damaged one."
    assert found_in(workspace) == [damaged(5), damaged(9), doubted]
