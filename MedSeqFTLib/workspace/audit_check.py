"""Comparing a workspace with its audit log: every altered, missing or unknown line, document and file is found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.workspace.audit import AUDIT_FILE, FIRST, NOTHING, AuditEntry, entries, present
from MedSeqFTLib.workspace.audit_head import AuditHead, problem_of, read_head
from MedSeqFTLib.workspace.verification import Progress, verify_recorded
from MedSeqFTLib.workspace.workspace import WORKSPACE_FILE, Workspace


@dataclass(frozen=True)
class AuditResult:
    """What a check found. `head` is the hash of the newest line: note it elsewhere, and compare it next time."""

    lines: int
    head: str
    problems: tuple[str, ...]


def verify(workspace: Workspace, progress: Progress = lambda done, total: None) -> AuditResult:
    """Check the chain of lines, then the documents against it, then all files whose checksum a document holds."""
    log = verify_log(workspace)
    return replace(log, problems=(*log.problems, *verify_recorded(workspace, progress).problems))


def verify_log(workspace: Workspace) -> AuditResult:
    """Check the chain of lines, then the documents against it."""
    return read_log(workspace).against(present(workspace))


@dataclass(frozen=True)
class Log:
    """The audit log at one moment, its chain checked."""

    entries: tuple[AuditEntry, ...]
    head: str
    problems: tuple[str, ...]

    def against(self, actual: Mapping[str, str]) -> AuditResult:
        """Compare with documents of the same moment: their names and hashes."""
        problems = list(self.problems)
        if not self.entries and not problems:
            if set(actual) <= {WORKSPACE_FILE}:  # nothing was done yet
                return AuditResult(0, FIRST, ())
            problems.append(f"{AUDIT_FILE} is missing: nothing can be checked against it.")
        problems += _documents(actual, self.entries)
        return AuditResult(len(self.entries), self.head, tuple(problems))


def read_log(workspace: Workspace) -> Log:
    """Check the chain of lines."""
    found: list[AuditEntry] = []
    hashes: list[str] = []
    kept, problems = _kept_head(workspace)
    try:
        for entry, line in entries(workspace):
            if entry.previous != (hashes or [FIRST])[-1] or entry.number != len(found) + 1:
                problems.append(f"{AUDIT_FILE}, line {len(found) + 1}: a line before it was altered or taken out.")
            found.append(entry)
            hashes.append(line)
        if problem := problem_of(kept, hashes):
            problems.append(f"{AUDIT_FILE}: {problem}.")
    except WorkspaceError as error:
        problems.append(str(error))
    if found and not found[-1].is_as_written:
        problems.append(f"{AUDIT_FILE}, line {len(found)}: it was altered.")
    return Log(tuple(found), (hashes or [FIRST])[-1], tuple(problems))


def _kept_head(workspace: Workspace) -> tuple[AuditHead | None, list[str]]:
    try:
        return read_head(workspace.folder), []
    except WorkspaceError as error:
        return None, [str(error)]


def _documents(actual: Mapping[str, str], found: Sequence[AuditEntry]) -> Iterator[str]:
    expected = {name: sha256 for entry in found for name, sha256 in entry.documents.items()}
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


def _allowed_of_the_last(found: Sequence[AuditEntry]) -> dict[str, str]:
    """The newest act may have been interrupted before it was done: then its documents are as they were before."""
    if not found:
        return {}
    before = {name: sha256 for entry in found[:-1] for name, sha256 in entry.documents.items()}
    return {name: before.get(name, NOTHING) for name in found[-1].documents}
