"""Damaging the audit log of a workspace."""

from __future__ import annotations

from pathlib import Path

from MedSeqFTLib.workspace.audit import AUDIT_FILE
from MedSeqFTLib.workspace.workspace import Workspace


def replace(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def remove_line(workspace: Workspace, first: int, last: int | None = None) -> None:
    path = workspace.folder / AUDIT_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: first - 1] + lines[last or first :]))


def cut(workspace: Workspace, kept: int) -> None:
    """Keep so many bytes of the newest line."""
    path = workspace.folder / AUDIT_FILE
    *before, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(before) + last[:kept])
