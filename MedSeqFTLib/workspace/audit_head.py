"""audit-head.json: how many lines the audit log has, and the hash of the newest one.

By itself, a log that was cut off looks like one whose last line a killed writer never finished. This file is written
after each line, before the act: a log may be ahead of it by what a killed writer began, and is never behind. Workspaces
of older programs have none until the next act.
"""

from __future__ import annotations

from pathlib import Path

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.workspace.files import read_json, write_json
from MedSeqFTLib.workspace.schema import Document

HEAD_FILE = "audit-head.json"


class AuditHead(Document):
    """The newest line that is known to be on the disk."""

    lines: int
    sha256: str  # of that line, without its newline

    def problem(self, lines: int, sha256: str) -> str:
        """What is wrong with a log of so many lines, whose line number `self.lines` has this hash; "" if nothing is."""
        if lines < self.lines:
            ends = f"it ends with line {lines}" if lines else "it is missing or empty"
            return f"it was cut off: {ends}, and {self.lines} lines were written"
        return "" if sha256 == self.sha256 else f"line {self.lines} is another one than was written"


def write_head(workspace: Path, lines: int, sha256: str) -> None:
    """The line must be on the disk. Raises StorageError."""
    write_json(workspace / HEAD_FILE, AuditHead(lines=lines, sha256=sha256))


def read_head(workspace: Path) -> AuditHead | None:
    """None if an older program wrote the log, or nothing was done yet. Read it before the log, to which others may add.

    Raises WorkspaceError if it is damaged.
    """
    path = workspace / HEAD_FILE
    if not path.exists():
        return None
    try:
        return read_json(path, AuditHead)
    except WorkspaceError as error:
        raise WorkspaceError(
            f"{error} If audit verify finds nothing else, remove it: the next act writes it anew."
        ) from error
