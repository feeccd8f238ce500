"""Every image, segmentation and weight file against the checksum in its record, at the speed of the disk."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.workspace.cases import IMAGE_FILE
from MedSeqFTLib.workspace.drafts import DRAFT_FILE, Draft
from MedSeqFTLib.workspace.files import read_json, visible_folders
from MedSeqFTLib.workspace.pruned import pruned_files
from MedSeqFTLib.workspace.schema import Segmentation
from MedSeqFTLib.workspace.segmentations import RECORD_FILE, SEGMENTATION_FILE
from MedSeqFTLib.workspace.versions import is_version_id, refuse_outside
from MedSeqFTLib.workspace.workspace import Workspace

Progress = Callable[[int, int], None]  # bytes done, bytes in all
_CHUNK = 1 << 20  # bytes
_BATCH = 8 << 20  # bytes that are read in one go
_OPENING = 16 << 10  # bytes that could be read while a file is opened
_MOST_THREADS = 8  # more only make a disk seek


@dataclass(frozen=True)
class Recorded:
    """A file whose SHA-256 is written down in the document of its owner, such as `case brain/patient1`."""

    path: Path
    sha256: str
    owner: str

    def problem(self, found: str | None, reason: str = "missing") -> str | None:
        """What is wrong if the file's SHA-256 is `found`; None: it could not be read."""
        if found is None:
            return f"{self.owner}: {self.path.name} is {reason} ({self.path})."
        if found != self.sha256:
            wrong = f"its SHA-256 is {found[:12]}..., expected {self.sha256[:12]}..."
            return f"{self.owner}: {self.path.name} is damaged: {wrong} ({self.path})."
        return None


@dataclass(frozen=True)
class Verified:
    """What a check of files found."""

    files: int
    size: int  # bytes
    problems: tuple[str, ...]


def recorded_files(workspace: Workspace) -> tuple[list[Recorded], list[str]]:
    """All files with a recorded checksum, and what is wrong with the documents that should tell them."""
    found: list[Recorded] = []
    problems: list[str] = []
    for read in (*_cases(workspace), *_versions(workspace), *_segmentations(workspace), *_drafts(workspace)):
        try:
            found += read()
        except MedSeqFTError as error:
            problems.append(str(error))
    return found, problems


def verify_recorded(workspace: Workspace, progress: Progress = lambda done, total: None) -> Verified:
    """Read every file with a recorded checksum; several at once. Changes nothing."""
    found, problems = recorded_files(workspace)
    sizes = [_size(file.path) for file in found]
    count = _Count(sum(sizes), progress)
    threads = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))
    try:
        for some in threads.map(partial(_problems, count), _batches(found, sizes)):
            problems += some
    finally:
        count.stopped = True  # Ctrl-C: what has begun ends at its next chunk
        threads.shutdown(cancel_futures=True)
    return Verified(len(found), count.total, tuple(problems))


def _batches(files: list[Recorded], sizes: list[int]) -> Iterator[list[Recorded]]:
    """Files that one thread reads in turn: handing over each of thousands of small ones costs more than reading it."""
    batch: list[Recorded] = []
    room = _BATCH
    for file, size in zip(files, sizes, strict=True):
        batch.append(file)
        room -= size + _OPENING
        if room <= 0:
            yield batch
            batch, room = [], _BATCH
    yield batch


class _Count:
    """Bytes done by all threads."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.total, self.stopped = total, False
        self._progress, self._done, self._lock = progress, 0, threading.Lock()

    def add(self, size: int) -> None:
        if self.stopped:
            raise InterruptedError
        with self._lock:
            self._done += size
            self._progress(self._done, self.total)


def _problems(count: _Count, files: list[Recorded]) -> list[str]:
    buffer = memoryview(bytearray(_CHUNK))  # one for all: clearing a new one takes longer than reading a small file
    return [problem for file in files if (problem := _checked(file, count, buffer))]


def _checked(file: Recorded, count: _Count, buffer: memoryview) -> str | None:
    digest = hashlib.sha256()
    try:
        with file.path.open("rb", buffering=0) as stream:
            while size := stream.readinto(buffer):
                digest.update(buffer[:size])
                count.add(size)
    except FileNotFoundError:
        return file.problem(None)
    except OSError as error:
        return file.problem(None, f"unreadable: {error.strerror or error}")
    return file.problem(digest.hexdigest())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


Read = Callable[[], list[Recorded]]


def _cases(workspace: Workspace) -> Iterator[Read]:
    for task in visible_folders(workspace.folder / "cases"):
        for folder in visible_folders(task):
            yield partial(_files_of_case, workspace, task.name, folder.name)


def _files_of_case(workspace: Workspace, task: str, name: str) -> list[Recorded]:
    case, owner = workspace.case(task, name), f"case {task}/{name}"
    image = Recorded(workspace.case_folder(task, name) / IMAGE_FILE, case.image_sha256, owner)
    return [image, *(Recorded(path, sha256, owner) for path, sha256 in workspace.segmentation_paths(case))]


def _versions(workspace: Workspace) -> Iterator[Read]:
    for folder in visible_folders(workspace.folder / "models"):
        if is_version_id(folder.name):
            yield partial(_files_of_version, workspace, folder.name)


def _files_of_version(workspace: Workspace, name: str) -> list[Recorded]:
    version, folder = workspace.version(name), workspace.version_folder(name)
    gone = pruned_files(folder)
    for file in version.files:
        refuse_outside(file, version.id)
    return [
        Recorded(folder / file, sha256, f"version {name}") for file, sha256 in version.files.items() if file not in gone
    ]


def _segmentations(workspace: Workspace) -> Iterator[Read]:
    for task in visible_folders(workspace.folder / "segmentations"):
        for volume in visible_folders(task):
            for folder in visible_folders(volume):
                yield partial(_file_of_segmentation, folder)


def _file_of_segmentation(folder: Path) -> list[Recorded]:
    record = read_json(folder / RECORD_FILE, Segmentation)
    owner = f"segmentation {record.task}/{record.name} by {record.version}"
    return [Recorded(folder / SEGMENTATION_FILE, record.segmentation_sha256, owner)]


def _drafts(workspace: Workspace) -> Iterator[Read]:
    for task in visible_folders(workspace.folder / "drafts"):
        for folder in visible_folders(task):
            yield partial(_file_of_draft, folder)


def _file_of_draft(folder: Path) -> list[Recorded]:
    draft = read_json(folder / DRAFT_FILE, Draft)
    if draft.segmentation_sha256 is None:  # written by an older program
        return []
    owner = f"draft {draft.task}/{draft.id}"
    return [Recorded(folder / SEGMENTATION_FILE, draft.segmentation_sha256, owner)]
