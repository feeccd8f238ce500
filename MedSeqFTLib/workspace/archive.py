"""One archive of a whole workspace: a zip file with a manifest of the SHA-256 of every file.

Why it is consistent although others write meanwhile: images, segmentations and weights never change once they are
visible, so they are copied first, without a lock. Then, under the workspace's lock, follows what is left: documents
and pointers, the audit log at the end, and whatever became visible in between. An edit on its way moves from a draft
into a job's input, which needs no lock, and from there into a case, which does: copied in this order, none is missed.
Pruning, which alone takes things away, waits for `archive_lock`.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout
from pydantic import Field

import MedSeqFTLib
from MedSeqFTLib.errors import InputError, WorkspaceError
from MedSeqFTLib.workspace.audit import answers_for, note
from MedSeqFTLib.workspace.audit_check import Log, read_log
from MedSeqFTLib.workspace.contents import MOVING, File, files_of, wanted_and_left_out
from MedSeqFTLib.workspace.files import atomic_path, refuse_too_little_room, storage_errors
from MedSeqFTLib.workspace.member_names import check_member_names
from MedSeqFTLib.workspace.outside import staging_in
from MedSeqFTLib.workspace.schema import Document, Part, now
from MedSeqFTLib.workspace.verification import Progress, recorded_files
from MedSeqFTLib.workspace.workspace import Workspace

MANIFEST, CONTENTS = "manifest.json", "workspace/"
SUFFIX = ".zip"
_TEXTS = {".json", ".jsonl", ".log", ".txt", ".html"}  # all else is compressed already, or noise
_CHUNK = 1 << 20  # bytes
_PATIENCE = 60.0  # seconds


class Member(Part):
    """A file of the archive."""

    sha256: str
    size: int  # bytes


class Left(Part):
    """Files that were left out for one reason."""

    files: int
    size: int  # bytes


class Manifest(Document):
    """manifest.json of an archive."""

    software: str = f"MedSeqFT {MedSeqFTLib.__version__}"
    created: datetime = Field(default_factory=now)
    audit_head: str  # SHA-256 of the newest line of audit.jsonl
    files: dict[str, Member]  # by name below the workspace
    left_out: dict[str, Left] = Field(default_factory=dict)  # by the reason
    problems: tuple[str, ...] = ()  # that the workspace had already


@dataclass(frozen=True)
class Exported:
    """An archive that was written. `problems`: what was damaged in the workspace already, and is so in the archive."""

    path: Path
    manifest: Manifest

    @property
    def size(self) -> int:
        """Bytes of all files, before they were packed."""
        return sum(member.size for member in self.manifest.files.values())


def export_workspace(
    workspace: Workspace,
    target: Path | str,
    *,
    jobs: bool = False,
    overwrite: bool = False,
    by: str = "",
    progress: Progress = lambda done, total: None,
) -> Exported:
    """Write a backup. The workspace may be used meanwhile; an interruption leaves nothing behind.

    Args:
        target: FILE.zip, outside of the workspace.
        jobs: with records and logs of finished jobs.
        by: who exports, for the audit log.

    Raises:
        InputError: an unusable target; it exists and `overwrite` is not set; a file name that no archive may hold.
        WorkspaceError: a link in the workspace; another process exports, prunes or holds the workspace.
        StorageError: it cannot be written; an earlier archive of this name is untouched.
    """
    target = Path(target).expanduser().absolute()
    _check_target(workspace, target, overwrite)
    with archive_lock(workspace), staging_in(target.parent) as staging:
        wanted, _ = wanted_and_left_out(files_of(workspace.folder), jobs)
        size = sum(file.size for file in wanted)
        refuse_too_little_room(target.parent, size, "The archive")
        with (
            atomic_path(target, staging) as temporary,
            zipfile.ZipFile(temporary, "w", allowZip64=True) as archive,
        ):
            manifest = _Packing(workspace, archive, jobs, size, progress).pack()
        with workspace.lock(_PATIENCE):
            note(workspace, "exported", f"{len(manifest.files)} files", {}, by)
    return Exported(target, manifest)


@contextmanager
def archive_lock(workspace: Workspace) -> Iterator[None]:
    """Keep exporting and pruning apart. Raises WorkspaceError at once if another process does one of them."""
    lock = FileLock(str(workspace.folder / "archive.lock"))
    with storage_errors(Path(lock.lock_file)):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise WorkspaceError(
                f"Another process exports or prunes the workspace {workspace.folder}; wait until it is done."
            ) from error
    try:
        yield
    finally:
        lock.release()


def _check_target(workspace: Workspace, target: Path, overwrite: bool) -> None:
    if target.suffix.lower() != SUFFIX:
        raise InputError(f"{target} must be named {SUFFIX}, which is what it will be.")
    if workspace.folder.resolve() in target.resolve().parents:
        raise InputError(f"{target} lies in the workspace, and would be lost with it; write the archive elsewhere.")
    if not target.parent.is_dir():
        raise InputError(f"{target} cannot be written: there is no folder {target.parent}.")
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already; choose another name, or allow it with --overwrite.")
    if target.is_dir():
        raise InputError(f"{target} is a folder; give the name of a file.")


class _Packing:
    """An archive that is being written."""

    def __init__(
        self, workspace: Workspace, archive: zipfile.ZipFile, jobs: bool, total: int, progress: Progress
    ) -> None:
        self._workspace, self._archive, self._jobs = workspace, archive, jobs
        self._total, self._done, self._progress = total, 0, progress
        self._members: dict[str, Member] = {}
        self._seen: set[str] = set()  # things that were packed, or were gone when they should have been

    def pack(self) -> Manifest:
        self._pack(file for file in self._wanted() if file.is_immutable)
        with self._workspace.lock(_PATIENCE):
            for moving in MOVING:
                while missing := self._units(self._wanted(moving)):
                    for unit in missing:
                        self._pack_together(unit)
            self._pack(file for file in self._wanted() if file.parts[0] not in MOVING)
            log = read_log(self._workspace)
        manifest = self._manifest(log)
        self._write(MANIFEST, (manifest.model_dump_json(indent=2) + "\n").encode("utf-8"))
        return manifest

    def _wanted(self, below: str = "") -> list[File]:
        """What is not packed yet; the audit log comes last."""
        found, _ = wanted_and_left_out(files_of(self._workspace.folder, below), self._jobs)
        missing = [file for file in found if file.unit not in self._seen]
        return sorted(missing, key=lambda file: file.name == "audit.jsonl")

    def _units(self, files: Iterable[File]) -> list[list[File]]:
        units: dict[str, list[File]] = {}
        for file in files:
            units.setdefault(file.unit, []).append(file)
        return list(units.values())

    def _pack(self, files: Iterable[File]) -> None:
        for file in files:
            try:
                source = file.path.open("rb")
            except OSError as error:
                raise WorkspaceError(f"Cannot read {file.path}: {error.strerror or error}.") from error
            with source:
                self._pack_open(file, source)
            self._seen.add(file.unit)

    def _pack_together(self, unit: list[File]) -> None:
        """All files of a draft or job, or, if it has moved on meanwhile, none."""
        self._seen.add(unit[0].unit)
        with ExitStack() as opened:
            try:
                sources = [opened.enter_context(file.path.open("rb")) for file in unit]
            except FileNotFoundError:
                return
            for file, source in zip(unit, sources, strict=True):
                self._pack_open(file, source)

    def _pack_open(self, file: File, source: BinaryIO) -> None:
        check_member_names([file.name], f"The workspace {self._workspace.folder}")
        digest, size = hashlib.sha256(), 0
        with self._archive.open(self._info(CONTENTS + file.name), "w", force_zip64=True) as target:
            for chunk in _chunks(file, source):
                target.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                self._done += len(chunk)
                self._progress(self._done, max(self._done, self._total))
        self._members[file.name] = Member(sha256=digest.hexdigest(), size=size)

    def _write(self, name: str, data: bytes) -> None:
        self._archive.writestr(self._info(name), data)

    def _info(self, name: str) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(name, now().timetuple()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED if Path(name).suffix in _TEXTS else zipfile.ZIP_STORED
        info.external_attr = 0o600 << 16  # patient data: whoever unpacks it by hand shares it with nobody
        return info

    def _manifest(self, log: Log) -> Manifest:
        check_member_names(self._members, f"The workspace {self._workspace.folder}")
        _, others = wanted_and_left_out(files_of(self._workspace.folder), self._jobs)
        documents = {name: member.sha256 for name, member in self._members.items() if answers_for(name)}
        return Manifest(
            audit_head=log.head,
            files=self._members,
            left_out={why: Left(files=len(them), size=sum(f.size for f in them)) for why, them in others.items()},
            problems=(*log.against(documents).problems, *damaged(self._workspace, self._members)),
        )


def _chunks(file: File, source: BinaryIO) -> Iterator[bytes]:
    try:
        while chunk := source.read(_CHUNK):
            yield chunk
    except OSError as error:
        raise WorkspaceError(f"Cannot read {file.path}: {error.strerror or error}.") from error


def damaged(workspace: Workspace, members: dict[str, Member]) -> list[str]:
    """What of a workspace differs from the checksums in its documents, told by those of an archive.

    What is on the disk and not in the archive is newer than that.
    """
    found, problems = recorded_files(workspace)
    for file in found:
        member = members.get(file.path.relative_to(workspace.folder).as_posix())
        if member is None and file.path.exists():
            continue
        if problem := file.problem(member.sha256 if member else None):
            problems.append(problem)
    return problems
