"""The audit log: who did what, when and why. Every line holds the hash of the line before, so none can be altered or
taken out unnoticed.

A line is written before the act that it tells of, with the hash of the document that the act is about to write; both
under the workspace's lock. If the process is killed in between, the next writer notes that the act was not done. That
the line is there is written down beside the log (see audit_head): or else one that was cut off would look like one
whose last line was never finished.

Whoever can write the whole workspace could make up a new log: note the newest hash elsewhere to be safe from that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.workspace.audit_head import HEAD_FILE, read_head, write_head
from MedSeqFTLib.workspace.damage import all_of
from MedSeqFTLib.workspace.files import (
    TEMPORARY_PREFIX,
    append_line,
    document_bytes,
    explain,
    remove_torn_line,
    sha256_of,
    storage_errors,
)
from MedSeqFTLib.workspace.person import person
from MedSeqFTLib.workspace.schema import Document, now

if TYPE_CHECKING:
    from MedSeqFTLib.workspace.workspace import Workspace

AUDIT_FILE = "audit.jsonl"
NOTHING = ""  # stands for the hash of a document that is not there
FIRST = "0" * 64  # stands for the hash of the line before the first
_PATTERNS = (
    "workspace.json",
    "tasks/*.json",
    "cases/*/*/case.json",
    "models/*/version.json",
    "models/*/pruned.json",
    "models/current.json",
)

Act = Literal[
    "log begun",
    "task added",
    "case accepted",
    "case revised",
    "version made",
    "promoted",
    "rolled back",
    "exported",
    "imported",
    "pruned",
    "policy changed",
    "not done",
]


class AuditEntry(Document):
    """One line of audit.jsonl."""

    number: int  # 1, 2, 3, ...
    when: datetime = Field(default_factory=now)
    who: str
    act: Act
    subject: str
    reason: str = ""
    documents: dict[str, str]  # path below the workspace, with / -> SHA-256 that it has afterwards
    previous: str  # SHA-256 of the line before, without its newline
    checksum: str = ""  # of this line without it: no line after the newest one answers for that; "": an older program's

    @property
    def is_as_written(self) -> bool:
        """False if it was altered since."""
        return self.checksum in ("", self._checksum())

    def with_checksum(self) -> AuditEntry:
        """As it is written."""
        return self.model_copy(update={"checksum": self._checksum()})

    def _checksum(self) -> str:
        plain = self.model_copy(update={"checksum": ""})
        return hashlib.sha256(plain.model_dump_json().encode("utf-8")).hexdigest()


def note(
    workspace: Workspace, act: Act, subject: str, documents: Mapping[Path, Document], who: str = "", reason: str = ""
) -> None:
    """Write down what is about to be done. Hold the workspace's lock.

    Args:
        documents: what will be written, by path.
        who: by default the login name.

    Raises:
        WorkspaceError: the log is damaged at its end, or was cut off.
        StorageError: it cannot be written; then nothing may be done.
    """
    path = workspace.folder / AUDIT_FILE
    with storage_errors(path):
        remove_torn_line(path)
    _refuse_cut_off(workspace.folder, path)
    hashes = {
        _name(workspace, document_path): hashlib.sha256(document_bytes(document)).hexdigest()
        for document_path, document in documents.items()
    }
    if not path.exists() or path.stat().st_size == 0:  # empty: whoever began it was killed, or found the disk full
        _append(path, "log begun", "workspace", present(workspace, skip=hashes), who, "")
    _settle(workspace, path)
    _append(path, act, subject, hashes, who, reason)


def entries(workspace: Workspace) -> Iterator[tuple[AuditEntry, str]]:
    """All entries, oldest first, each with the hash of its line. A torn last line, of a killed process, is left out.

    Raises WorkspaceError, naming the line, for one that cannot be read.
    """
    path = workspace.folder / AUDIT_FILE
    for number, line in _lines(path):
        yield _parsed(path, number, line), _hash(line)


def each_line(workspace: Workspace) -> Iterator[tuple[AuditEntry | WorkspaceError, str]]:
    """As `entries`, on past a line that cannot be read: instead of its entry, what is wrong with it."""
    path = workspace.folder / AUDIT_FILE
    for number, line in _lines(path):
        try:
            yield _parsed(path, number, line), _hash(line)
        except WorkspaceError as error:
            yield error.with_traceback(None), _hash(line)


def unaltered_entries(workspace: Workspace) -> list[AuditEntry]:
    """All entries, oldest first, each compared with its own checksum. What was taken out only `audit verify` finds.

    Raises WorkspaceError, naming the line, for one that is damaged, unless the list is only shown (see damage).
    """
    path = workspace.folder / AUDIT_FILE
    return all_of(partial(_unaltered, path, number, line) for number, line in _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The whole lines with their numbers, from 1."""
    if path.exists():
        with path.open("rb") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.endswith(b"\n"))


def present(workspace: Workspace, skip: Mapping[str, str] | None = None) -> dict[str, str]:
    """The documents of a workspace that the log answers for, with their hashes."""
    paths = (path for pattern in _PATTERNS for path in sorted(workspace.folder.glob(pattern)))
    names = {_name(workspace, path): path for path in paths if path.is_file()}
    return {name: sha256_of(path) for name, path in names.items() if name not in (skip or {}) and not _is_hidden(name)}


def answers_for(name: str) -> bool:
    """True for the name of a document whose hash the log holds; as `present`, without looking at the disk."""
    parts = name.split("/")
    patterns = (pattern.split("/") for pattern in _PATTERNS)
    return not _is_hidden(name) and any(
        len(pattern) == len(parts) and all(fnmatchcase(*pair) for pair in zip(parts, pattern, strict=True))
        for pattern in patterns
    )


def _is_hidden(name: str) -> bool:
    return any(part.startswith(TEMPORARY_PREFIX) for part in name.split("/"))


def _refuse_cut_off(folder: Path, path: Path) -> None:
    head, line = read_head(folder), _last_line(path)
    if head is None:
        return
    lines = _parsed(path, None, line).number if line else 0
    if problem := head.problem(lines, _hash(line) if lines == head.lines else head.sha256):
        raise WorkspaceError(
            f"{path} is damaged: {problem}. Restore it from a backup; if there is none, remove {HEAD_FILE} to go on."
        )


def _settle(workspace: Workspace, path: Path) -> None:
    """If the newest act was not done, because its process was killed, say so: only the newest can be in that state."""
    last = _parsed(path, None, _last_line(path))
    found = {name: _hash_of_file(workspace.folder / name) for name in last.documents}
    if last.act not in ("log begun", "not done") and found != last.documents:
        _append(path, "not done", f"{last.number}: {last.act} {last.subject}", found, last.who, "")


def _append(path: Path, act: Act, subject: str, documents: dict[str, str], who: str, reason: str) -> None:
    line = _last_line(path)
    number = _parsed(path, None, line).number + 1 if line else 1
    entry = AuditEntry(
        number=number,
        who=person(who),
        act=act,
        subject=subject,
        reason=reason,
        documents=documents,
        previous=_hash(line) if line else FIRST,
    )
    written = entry.with_checksum().model_dump_json().encode("utf-8")
    with storage_errors(path), path.open("ab", buffering=0) as file:
        append_line(file, path, written + b"\n", flush=True)
    write_head(path.parent, number, _hash(written))


def _last_line(path: Path, block: int = 65536) -> bytes:
    """The last line; empty if there is none."""
    if not path.exists():
        return b""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        while True:
            file.seek(max(0, size - block))
            lines = file.read().splitlines(keepends=True)
            if block >= size or len(lines) > 1:
                return lines[-1] if lines else b""
            block *= 4


def _parsed(path: Path, number: int | None, line: bytes) -> AuditEntry:
    try:
        return AuditEntry.model_validate_json(line)
    except ValidationError as error:
        where = f"line {number}" if number else "its last line"
        raise WorkspaceError(
            f"{path}: {where} is damaged ({explain(error)}). Restore the file from a backup."
        ) from error


def _unaltered(path: Path, number: int, line: bytes) -> AuditEntry:
    entry = _parsed(path, number, line)
    if not entry.is_as_written:
        why = "its text does not fit its checksum"
        raise WorkspaceError(f"{path}: line {number} is damaged ({why}). Restore the file from a backup.")
    return entry


def _hash(line: bytes) -> str:
    return hashlib.sha256(line.rstrip(b"\r\n")).hexdigest()


def _hash_of_file(path: Path) -> str:
    return sha256_of(path) if path.is_file() else NOTHING


def _name(workspace: Workspace, path: Path) -> str:
    return path.relative_to(workspace.folder).as_posix()
