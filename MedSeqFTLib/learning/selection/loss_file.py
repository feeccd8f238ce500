"""Losses of finished passes on disk, so that a killed job repeats none of them.

One JSON object a line, only ever appended: first the identity of the run, then pieces of (case, first pass, losses). A
kill may tear the last line; whatever cannot be read is cut off with all that follows, and is computed again.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.workspace.files import storage_errors, write_bytes_atomically


class _Head(BaseModel):
    model_config = ConfigDict(extra="forbid")
    identity: str


class _Piece(BaseModel):
    model_config = ConfigDict(extra="forbid")
    case: str
    first: int
    losses: list[FiniteFloat]


class LossFile:
    """The losses of one selection. `discarded`: the file held those of another identity, and was begun anew."""

    def __init__(self, path: Path, identity: str) -> None:
        """Open or create the file. Raises StorageError, and WorkspaceError if it cannot be read."""
        self._path = path
        self._losses: dict[str, list[float]] = {}
        data = _read(path)
        head = _Head(identity=identity).model_dump_json().encode() + b"\n"
        lines = [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]
        self.discarded = bool(lines) and lines[0] != head
        good = head if not lines or self.discarded else b"".join([head, *self._taken(lines[1:])])
        if good != data:
            write_bytes_atomically(path, good)

    def of(self, case: str) -> list[float]:
        """The losses of a case's passes 0, 1, ... as far as they are known."""
        return list(self._losses.get(case, ()))

    def count(self, case: str) -> int:
        """How many passes of a case are known."""
        return len(self._losses.get(case, ()))

    def append(self, case: str, losses: list[float]) -> None:
        """Add the next passes of a case. Raises StorageError."""
        known = self._losses.setdefault(case, [])
        line = _Piece(case=case, first=len(known), losses=losses).model_dump_json().encode() + b"\n"
        with storage_errors(self._path), self._path.open("ab") as file:
            file.write(line)
        known += losses

    def _taken(self, lines: list[bytes]) -> list[bytes]:
        """The lines up to the first that does not fit; their losses are taken over."""
        for number, line in enumerate(lines):
            try:
                piece = _Piece.model_validate_json(line)
            except ValidationError:
                return lines[:number]
            known = self._losses.setdefault(piece.case, [])
            if piece.first != len(known):
                return lines[:number]
            known += piece.losses
        return lines


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise WorkspaceError(f"Cannot read {path}: {error.strerror or error}.") from error
