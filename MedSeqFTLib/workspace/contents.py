"""What belongs into a backup of a workspace, what can be made again, and what may change while it is being copied."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.workspace.files import TEMPORARY_PREFIX

#: Why a file is left out of a backup.
CACHE, TEMPORARY, JOBS, REPORT = "cache", "temporary files", "records and logs of jobs", "report"
CHECKPOINTS, PROCESS = "checkpoints of jobs", "locks and process numbers"
_PROCESS_FILES = {"process.json", "cancel"}  # true only on this computer, and only now
_IMMUTABLE = {"cases", "models", "segmentations"}  # folders in which everything but JSON is written once
#: What owners remove without the workspace's lock, with the depth at which one thing lies; in the order in which an
#: edit moves.
MOVING = {"drafts": 3, "jobs": 2}


@dataclass(frozen=True)
class File:
    """A file of a workspace. `name`: below the workspace, with /."""

    name: str
    path: Path
    size: int  # bytes

    @property
    def parts(self) -> list[str]:
        return self.name.split("/")

    @property
    def is_immutable(self) -> bool:
        """True for images, segmentations and weights: once there, they never change."""
        return self.parts[0] in _IMMUTABLE and self.path.suffix not in (".json", ".jsonl")

    @property
    def unit(self) -> str:
        """The draft or job that the file is a part of; any other file is a thing of its own."""
        depth = MOVING.get(self.parts[0], len(self.parts))
        return "/".join(self.parts[:depth])


def files_of(workspace: Path, below: str = "") -> list[File]:
    """All files of a workspace or of one of its folders, by name.

    Raises:
        WorkspaceError: a link, whose target would be missing in a backup.
    """
    found = (_file(workspace, path) for path in _walked(workspace / below))
    return sorted((file for file in found if file), key=lambda file: file.name)


def _walked(top: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(top):
        yield from (Path(folder, name) for name in names)
        yield from (Path(folder, name) for name in subfolders if os.path.islink(Path(folder, name)))


def _file(workspace: Path, path: Path) -> File | None:
    name = path.relative_to(workspace).as_posix()
    if path.is_symlink() and not name.startswith("cache"):
        raise WorkspaceError(
            f"{path} is a link: a backup would lack what it points to. Put the folder or file itself in its place."
        )
    try:
        return File(name, path, path.lstat().st_size)
    except FileNotFoundError:  # removed by its owner just now
        return None


def wanted_and_left_out(files: Iterable[File], jobs: bool) -> tuple[list[File], dict[str, list[File]]]:
    """What belongs into a backup, and what does not, by the reason.

    Args:
        jobs: records and logs of jobs are wanted.
    """
    files = list(files)
    waiting = {file.unit for file in files if file.parts[0] == "jobs" and file.parts[2:3] == ["input"]}
    wanted: list[File] = []
    others: dict[str, list[File]] = defaultdict(list)
    for file in files:
        reason = _reason(file, jobs or file.unit in waiting)
        (others[reason] if reason else wanted).append(file)
    return wanted, dict(others)


def _reason(file: File, job_wanted: bool) -> str | None:
    """Why a file is left out. A job with input holds an edit that is not filed yet: it is always wanted."""
    first, *rest = file.parts
    if any(part.startswith(TEMPORARY_PREFIX) for part in file.parts):
        return TEMPORARY
    if first == "cache":
        return CACHE
    if file.path.suffix == ".lock" or (first == "jobs" and rest[1:] and rest[1] in _PROCESS_FILES):
        return PROCESS
    if file.name == "report.html":
        return REPORT
    if first == "jobs" and rest[1:2] == ["checkpoints"]:
        return CHECKPOINTS
    return None if first != "jobs" or job_wanted else JOBS
