"""The result of a cell on disk."""

from __future__ import annotations

from pathlib import Path

from MedSeqFTLib.learning.benchmark.cells import Cell
from MedSeqFTLib.workspace.files import read_json
from MedSeqFTLib.workspace.schema import Document, TaskScores

CELLS = "cells"
RECORD = "cell.json"


class CellRecord(Document):
    """cell.json: which version a cell made, what that is worth and what it took.

    per_task: the cell's own task (of a multi-task cell: every task) by the model that segments it.
    single_model: every task so far by the model that is handed on; empty where the strategy has no such model.
    """

    key: str
    strategy: str
    task: str
    seed: int
    parent: str | None
    version: str
    seconds: float  # of learning, without measuring
    whole: bool  # learned without a break, so that the seconds can be compared
    peak_mib: float | None  # of memory on the GPU; None on a CPU
    computed_on: str
    per_task: tuple[TaskScores, ...]
    single_model: tuple[TaskScores, ...]


def cell_folder(folder: Path, cell: Cell) -> Path:
    """Where a cell keeps its checkpoints and its record."""
    return folder / CELLS / cell.key


def is_finished(folder: Path, cell: Cell) -> bool:
    """Whether a cell has a record; that is written whole or not at all."""
    return (cell_folder(folder, cell) / RECORD).exists()


def record_of(folder: Path, cell: Cell) -> CellRecord | None:
    """The record of a finished cell. Raises WorkspaceError if it is damaged."""
    path = cell_folder(folder, cell) / RECORD
    return read_json(path, CellRecord, key=cell.key) if is_finished(folder, cell) else None
