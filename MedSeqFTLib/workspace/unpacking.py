"""Making a workspace of an archive: everything is checked, and the folder appears whole or not at all.

An archive may come from anywhere: its manifest is read first, and what the archive holds must be exactly that, in size
before anything is written, and in content while it is written. Only ordinary files below the new folder are made.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from MedSeqFTLib.errors import InputError, WorkspaceError
from MedSeqFTLib.workspace.archive import CONTENTS, MANIFEST, Manifest, damaged
from MedSeqFTLib.workspace.audit import note
from MedSeqFTLib.workspace.audit_check import verify_log
from MedSeqFTLib.workspace.files import explain, new_folder_atomically, refuse_too_little_room, storage_errors
from MedSeqFTLib.workspace.member_names import check_member_names
from MedSeqFTLib.workspace.outside import staging_in
from MedSeqFTLib.workspace.schema import SCHEMA_VERSION
from MedSeqFTLib.workspace.verification import Progress
from MedSeqFTLib.workspace.workspace import FOLDERS, WORKSPACE_FILE, Workspace

_CHUNK = 1 << 20  # bytes
_LARGEST_MANIFEST = 256 << 20  # bytes
_LARGEST_RATIO = 1100  # deflate reaches 1032; bytes of a file for each byte in the archive
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True)
class Imported:
    """A workspace that was made of an archive. `problems`: what was damaged or altered when it was exported."""

    workspace: Workspace
    manifest: Manifest
    problems: tuple[str, ...]


def import_workspace(
    archive: Path | str,
    folder: Path | str,
    *,
    accept_damaged: bool = False,
    by: str = "",
    progress: Progress = lambda done, total: None,
) -> Imported:
    """Unpack an archive into a new or empty folder, all or nothing.

    Args:
        accept_damaged: take also a workspace that was damaged or altered already when it was exported.
        by: who imports, for the audit log.

    Raises:
        InputError: no archive of a workspace, a damaged one, one that would write elsewhere, or an unusable folder.
        WorkspaceError: the workspace in the archive is damaged or was altered, or a newer program wrote it.
        StorageError: too little room, or a failed write.
    """
    archive, folder = Path(archive).expanduser().absolute(), Path(folder).expanduser().absolute()
    _refuse_occupied(folder)
    with _opened(archive) as opened:
        manifest = _manifest(archive, opened)
        members = _checked_members(archive, opened, manifest)
        with _made(folder) as new:
            refuse_too_little_room(new, sum(member.size for member in manifest.files.values()), "The workspace")
            _unpack(archive, opened, members, manifest, new, progress)
            problems = _settled(new, manifest, accept_damaged, by)
    return Imported(Workspace.open(folder), manifest, problems)


def _refuse_occupied(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder; import into a new or empty one.")


@contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """A folder that appears when the body is done; an empty one of its name gives way, and comes back on an error."""
    was_there = folder.exists()
    try:
        if was_there:
            with storage_errors(folder):
                folder.rmdir()
        with staging_in(folder.parent) as staging, new_folder_atomically(folder, staging) as temporary:
            yield temporary
    finally:
        if was_there:
            folder.mkdir(exist_ok=True)


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    if not archive.is_file():
        raise InputError(f"{archive} is not there, or no file; give an archive that 'workspace export' wrote.")
    try:
        opened = zipfile.ZipFile(archive)
    except OSError as error:
        raise InputError(f"Cannot read {archive}: {error.strerror or error}.") from error
    except _ZIP_ERRORS as error:
        raise InputError(f"{archive} is no zip archive, or a damaged one ({error}); take another copy.") from error
    with opened:
        yield opened


def _manifest(archive: Path, opened: zipfile.ZipFile) -> Manifest:
    info = next((info for info in opened.infolist() if info.filename == MANIFEST), None)
    if info is None:
        raise InputError(f"{archive} has no {MANIFEST}: it is no archive that 'workspace export' wrote.")
    _check_entry(archive, info, min(info.file_size, _LARGEST_MANIFEST))
    with _reading(archive, info.filename):
        text = opened.read(info)
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{archive}: its {MANIFEST} cannot be used: {explain(error)}.") from error
    if manifest.schema_version > SCHEMA_VERSION:
        raise WorkspaceError(f"{archive} was written by a newer MedSeqFT ({manifest.software}); update MedSeqFT.")
    return manifest


def _checked_members(archive: Path, opened: zipfile.ZipFile, manifest: Manifest) -> dict[str, zipfile.ZipInfo]:
    """The entries by their names below the workspace: exactly those of the manifest, in name and size."""
    infos = [info for info in opened.infolist() if info.filename != MANIFEST]
    check_member_names(manifest.files, str(archive))
    members = {info.filename.removeprefix(CONTENTS): info for info in infos}
    expected = {CONTENTS + name for name in manifest.files}
    if len(infos) != len(opened.infolist()) - 1 or sorted(info.orig_filename for info in infos) != sorted(expected):
        odd = sorted(expected.symmetric_difference(info.orig_filename for info in infos)) or ["a file twice"]
        raise InputError(f"{archive} does not hold what its {MANIFEST} says ({odd[0][:200]!r}); nothing was changed.")
    for name, info in members.items():
        _check_entry(archive, info, manifest.files[name].size)
    if sum(info.compress_size for info in infos) > archive.stat().st_size:
        raise InputError(f"{archive} holds files that overlap; it is no archive that 'workspace export' wrote.")
    if WORKSPACE_FILE not in members:
        raise InputError(f"{archive} holds no {WORKSPACE_FILE}: it is no archive of a workspace.")
    return members


def _check_entry(archive: Path, info: zipfile.ZipInfo, size: int) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.is_dir() or kind not in (0, stat.S_IFREG) or info.flag_bits & 1:
        raise InputError(f"{archive}: {info.filename!r} is no ordinary file (a link, a folder, encrypted).")
    if info.file_size != size or info.file_size > _LARGEST_RATIO * max(1, info.compress_size):
        raise InputError(f"{archive}: {info.filename!r} declares {info.file_size} bytes, which cannot be.")


def _unpack(
    archive: Path,
    opened: zipfile.ZipFile,
    members: dict[str, zipfile.ZipInfo],
    manifest: Manifest,
    folder: Path,
    progress: Progress,
) -> None:
    total = sum(member.size for member in manifest.files.values())
    done = 0
    for name in FOLDERS:
        (folder / name).mkdir()
    for name, info in members.items():
        path, digest = folder / name, hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            for chunk in _chunks(archive, opened, info):
                target.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                progress(done, total)
        if digest.hexdigest() != manifest.files[name].sha256:
            raise InputError(f"{archive} is damaged: {name} has another SHA-256 than written down; take another copy.")


def _chunks(archive: Path, opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with _reading(archive, info.filename):
        source = opened.open(info)
    with source:
        while True:
            with _reading(archive, info.filename):
                chunk = source.read(_CHUNK)
            if not chunk:
                return
            yield chunk


@contextmanager
def _reading(archive: Path, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"Cannot read {archive}: {error.strerror or error}.") from error
    except _ZIP_ERRORS as error:
        raise InputError(f"{archive} is damaged at {name!r} ({error}); take another copy.") from error


def _settled(folder: Path, manifest: Manifest, accept_damaged: bool, by: str) -> tuple[str, ...]:
    """Check the unpacked workspace against its audit log, and write down that it was imported."""
    workspace = Workspace.open(folder)
    log = verify_log(workspace)
    found = (*log.problems, *damaged(workspace, manifest.files))
    problems = tuple(problem.replace(str(folder), "workspace") for problem in found)
    if problems and not accept_damaged:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise WorkspaceError(
            f"The workspace in the archive is damaged or was altered before it was exported: {problems[0]}{more} "
            "Take another archive, or import it as it is with --accept-damaged."
        )
    with workspace.lock():
        note(workspace, "imported", f"exported {manifest.created:%Y-%m-%d %H:%M} UTC", {}, by, manifest.audit_head)
    return problems
