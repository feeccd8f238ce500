"""Comparing a workspace with its audit log: every altered, missing or unknown line, document and file is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from MedSeqFTLib.errors import MedSeqFTError, WorkspaceError
from MedSeqFTLib.workspace.audit import AUDIT_FILE, FIRST, NOTHING, AuditEntry, entries, present
from MedSeqFTLib.workspace.workspace import Workspace

Progress = Callable[[int, int], None]  # files looked at, in all


@dataclass(frozen=True)
class AuditResult:
    """What a check found. `head` is the hash of the newest line: note it elsewhere, and compare it next time."""

    lines: int
    head: str
    problems: tuple[str, ...]


def verify(workspace: Workspace, progress: Progress = lambda done, total: None) -> AuditResult:
    """Check the chain of lines, then the documents against it, then the files of cases and versions."""
    found: list[AuditEntry] = []
    head, problems = FIRST, []
    try:
        for entry, line in entries(workspace):
            if entry.previous != head or entry.number != len(found) + 1:
                problems.append(f"{AUDIT_FILE}, line {len(found) + 1}: a line before it was altered or taken out.")
            found.append(entry)
            head = line
    except WorkspaceError as error:
        problems.append(str(error))
    if not found and not problems:
        problems.append(f"{AUDIT_FILE} is missing: nothing can be checked against it.")
    problems += _documents(workspace, found)
    problems += _files(workspace, progress)
    return AuditResult(len(found), head, tuple(problems))


def _documents(workspace: Workspace, found: list[AuditEntry]) -> Iterator[str]:
    expected = {name: sha256 for entry in found for name, sha256 in entry.documents.items()}
    actual = present(workspace)
    unfinished = _allowed_of_the_last(found)
    for name in sorted({*expected, *actual}):
        is_now, should_be = actual.get(name, NOTHING), expected.get(name, NOTHING)
        if is_now == should_be or is_now == unfinished.get(name):
            continue
        if name not in expected:
            yield f"{name} is not in the audit log: it was put there by something else."
        elif is_now == NOTHING:
            yield f"{name} is missing."
        else:
            yield f"{name} was altered: it is not what the audit log says."


def _allowed_of_the_last(found: list[AuditEntry]) -> dict[str, str]:
    """The newest act may have been interrupted before it was done: then its documents are as they were before."""
    if not found:
        return {}
    before = {name: sha256 for entry in found[:-1] for name, sha256 in entry.documents.items()}
    return {name: before.get(name, NOTHING) for name in found[-1].documents}


def _files(workspace: Workspace, progress: Progress) -> Iterator[str]:
    """The images, segmentations and weights, against the hashes in their documents."""
    try:
        checks = [
            *((workspace.verify_case, case) for case in workspace.cases()),
            *((workspace.verify_version, version) for version in workspace.versions()),
        ]
    except MedSeqFTError as error:
        yield str(error)
        return
    for number, (check, document) in enumerate(checks, start=1):
        try:
            check(document)  # type: ignore[operator]
        except MedSeqFTError as error:
            yield str(error)
        progress(number, len(checks))
