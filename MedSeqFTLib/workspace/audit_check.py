"""Comparing a workspace with its audit log: every altered, missing or unknown line, document and file is found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.workspace.audit import AUDIT_FILE, FIRST, NOTHING, AuditEntry, each_line, present
from MedSeqFTLib.workspace.audit_chain import Chain, check_chain
from MedSeqFTLib.workspace.audit_head import AuditHead, read_head
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

    chain: Chain
    problems: tuple[str, ...]

    @property
    def head(self) -> str:
        """The hash of the newest line."""
        return self.chain.head

    def against(self, actual: Mapping[str, str]) -> AuditResult:
        """Compare with documents of the same moment: their names and hashes."""
        problems = list(self.problems)
        if not self.chain.entries and not problems:
            if set(actual) <= {WORKSPACE_FILE}:  # nothing was done yet
                return AuditResult(0, FIRST, ())
            problems.append(f"{AUDIT_FILE} is missing: nothing can be checked against it.")
        problems += _documents(actual, self.chain)
        return AuditResult(len(self.chain.entries), self.head, tuple(problems))


def read_log(workspace: Workspace) -> Log:
    """Check the chain of lines."""
    kept, problems = _kept_head(workspace)
    chain = check_chain(each_line(workspace), kept)
    return Log(chain, (*problems, *chain.problems))


def _kept_head(workspace: Workspace) -> tuple[AuditHead | None, list[str]]:
    try:
        return read_head(workspace.folder), []
    except WorkspaceError as error:
        return None, [str(error)]


def _documents(actual: Mapping[str, str], chain: Chain) -> Iterator[str]:
    expected = {name: sha256 for entry in chain.entries if entry for name, sha256 in entry.documents.items()}
    differing = {name for name, _ in expected.items() ^ actual.items()}
    wrong = sorted(name for name in differing if actual.get(name, NOTHING) != expected.get(name, NOTHING))
    if not wrong:
        return
    *older, newest = chain.entries or (None,)
    told, before = _told(chain.entries), _told(older)
    unfinished = newest.documents if newest and not chain.doubt(len(chain.entries)) else {}
    for name in wrong:
        is_now, place = actual.get(name, NOTHING), told.get(name, 0)
        if name in unfinished:  # the newest act may have been interrupted before it was done
            place = before.get(name, 0)
            if is_now == _hash_at(chain, place, name):
                continue
        yield _problem(name, is_now, is_known=name in told, doubt=chain.doubt(place))


def _told(entries: Iterable[AuditEntry | None]) -> dict[str, int]:
    """Documents, and the place of the newest of these lines that speaks of each."""
    return {name: place for place, entry in enumerate(entries, start=1) if entry for name in entry.documents}


def _hash_at(chain: Chain, place: int, name: str) -> str:
    entry = chain.entries[place - 1] if place else None
    return entry.documents[name] if entry else NOTHING


def _problem(name: str, is_now: str, is_known: bool, doubt: str) -> str:
    """What is wrong with a document. Nobody is accused if a line that may have told of it is in doubt."""
    if is_now == NOTHING:
        return f"{name} is missing."
    if is_known and doubt:
        return f"{name} is not what the audit log says: its newest line may be the {doubt} one."
    if is_known:
        return f"{name} was altered: it is not what the audit log says."
    why = f"its line may be the {doubt} one" if doubt else "it was put there by something else"
    return f"{name} is not in the audit log: {why}."
