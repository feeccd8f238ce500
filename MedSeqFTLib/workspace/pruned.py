"""Versions whose weights were taken away to free space: `pruned.json` beside their version.json tells it.

The audit log holds the hash of every pruned.json, so that weights that somebody else took away are missing, not pruned.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import Field

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.workspace.files import read_json
from MedSeqFTLib.workspace.schema import Document, now

PRUNED_FILE = "pruned.json"


class Pruned(Document):
    """pruned.json."""

    files: tuple[str, ...]  # names as in version.json
    when: datetime = Field(default_factory=now)
    who: str = ""


def pruned_files(folder: Path) -> frozenset[str]:
    """Names of the files that a version no longer has. Raises WorkspaceError if its pruned.json is damaged."""
    path = folder / PRUNED_FILE
    return frozenset(read_json(path, Pruned).files) if path.exists() else frozenset()


def refuse_pruned(folder: Path) -> None:
    """Raise WorkspaceError if the weights of the version in this folder were pruned."""
    path = folder / PRUNED_FILE
    if path.exists():
        when = read_json(path, Pruned).when
        raise WorkspaceError(
            f"The weights of version {folder.name} were pruned on {when:%Y-%m-%d} to free space, so it cannot be used; "
            "take another version, adapt again, or import a backup from before that day."
        )
