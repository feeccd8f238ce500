"""Files that are either wholly there or not there at all.

Everything is written under a temporary name beside its target, flushed to the disk and then renamed. A process that is
killed leaves at most a `.tmp-...` entry, which no listing shows and which `remove_leftovers` clears away.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

import pydantic_core
from pydantic import ValidationError

from MedSeqFTLib.errors import StorageError, WorkspaceError
from MedSeqFTLib.workspace.schema import SCHEMA_VERSION, Document

TEMPORARY_PREFIX = ".tmp-"
OUTSIDE_PREFIX = f"{TEMPORARY_PREFIX}out-"  # see workspace/outside.py
_DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NO_FOLDER_FLUSH = {errno.EINVAL, errno.EBADF, errno.ENOTSUP}  # some network shares
_CHUNK = 1 << 20  # bytes
_MANY, _AT_ONCE = 1000, 16  # files that are flushed one by one at most; threads for more
#: The last lines of a document: a flipped bit may leave valid JSON, with another number in it.
_CHECKSUM = ',\n  "checksum": "{}"\n}}'
_WRITTEN_CHECKSUM = re.compile(r',\r?\n  "checksum": "([^"]*)"\r?\n\}\s*$')
D = TypeVar("D", bound=Document)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_sha256(path: Path, declared: str) -> None:
    """Raise a WorkspaceError that names `path` if the file is missing or its bytes are not the declared ones."""
    try:
        found = sha256_of(path)
    except OSError as error:
        raise WorkspaceError(f"Cannot read {path}: {error.strerror or error}.") from error
    if found != declared:
        raise WorkspaceError(
            f"{path} is damaged: its SHA-256 is {found[:12]}..., expected {''.join(declared[:12].split())}..."
        )


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the body into a StorageError that names `path` and, where that is the cause, a full disk."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"Cannot write {path}: {_reason(error)}. What was there before is unchanged.") from error


def _reason(error: OSError) -> str:
    if error.errno in _DISK_FULL:
        return "the disk is full (or a quota is used up); free some space and try again"
    return f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")


@contextmanager
def atomic_path(target: Path, within: Path | None = None) -> Iterator[Path]:
    """Give a temporary path, with the suffixes of `target`; when the body is done, rename it to `target`.

    The body must create the file. On an error the temporary file is removed and `target` stays as it was.

    Args:
        within: the folder of the temporary path, on the same disk; by default that of `target`.

    Raises:
        StorageError: the file cannot be written, for instance because the disk is full.
    """
    target = Path(target)
    temporary = _temporary_for(target, within)
    try:
        with storage_errors(target):
            yield temporary
            flush_to_disk(temporary)
            _replace(temporary, target)
            flush_folder(target.parent)
    finally:
        remove_path(temporary)


@contextmanager
def new_folder_atomically(target: Path, within: Path | None = None) -> Iterator[Path]:
    """Give a temporary folder to fill; when the body is done, rename it to `target`.

    Args:
        within: the folder of the temporary one, on the same disk; by default that of `target`.

    Raises:
        WorkspaceError: `target` exists already.
        StorageError: something cannot be written, for instance because the disk is full.
    """
    target = Path(target)
    temporary = _temporary_for(target, within)
    try:
        with storage_errors(target):
            make_folders(target.parent)
            temporary.mkdir()
            yield temporary
            _flush_tree(temporary)
            if target.exists():
                raise WorkspaceError(f"{target} exists already and is never overwritten.")
            _replace(temporary, target)
            flush_folder(target.parent)
    finally:
        remove_path(temporary)


def write_bytes_atomically(path: Path, data: bytes, within: Path | None = None) -> None:
    """Write a whole file or nothing; `within` as of `atomic_path`. Raises StorageError."""
    with atomic_path(path, within) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, document: Document, within: Path | None = None) -> None:
    """Write a document as indented UTF-8 JSON, atomically; `within` as of `atomic_path`. Raises StorageError."""
    write_bytes_atomically(path, document_bytes(document), within)


def document_bytes(document: Document) -> bytes:
    """What `write_json` writes."""
    text = document.model_dump_json(indent=2)
    type(document).model_validate_json(text)  # what could not be read again is not written
    return (text.removesuffix("\n}") + _CHECKSUM.format(_checksum(text)) + "\n").encode("utf-8")


def _without_checksum(text: str) -> tuple[str, bool]:
    """A document's text without its own checksum, and whether it fits. Those of older programs have none."""
    found = _WRITTEN_CHECKSUM.search(text)
    if found is None:
        return text, True
    plain = text[: found.start()].replace("\r\n", "\n") + "\n}"
    return plain, _checksum(plain) == found[1]


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def read_json(path: Path, kind: type[D], **expected: str) -> D:
    """Read a document.

    Args:
        expected: values that fields must have, because the file's place on disk says so.

    Raises:
        WorkspaceError: the file is missing, damaged, or was written by a newer program.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        raw = pydantic_core.from_json(text)
    except OSError as error:
        raise WorkspaceError(f"Cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise WorkspaceError(f"{path} is damaged: not valid JSON ({error}). Restore it from a backup.") from error
    _refuse_newer(path, raw)
    plain, fits = _without_checksum(text)
    try:
        document = kind.model_validate_json(plain)
    except ValidationError as error:
        raise WorkspaceError(f"{path} is damaged: {explain(error)}. Restore it from a backup.") from error
    if not fits:
        raise WorkspaceError(f"{path} is damaged: its text does not fit its checksum. Restore it from a backup.")
    for field, value in expected.items():
        if getattr(document, field) != value:
            found = getattr(document, field)
            raise WorkspaceError(f"{path} is damaged: it says {field} {found!r}, its place on disk says {value!r}.")
    return document


def _refuse_newer(path: Path, raw: object) -> None:
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if type(version) is not int or version < 1:
        raise WorkspaceError(f"{path} is damaged: schema_version is missing. Restore it from a backup.")
    if version > SCHEMA_VERSION:
        known = f"schema {version}, this program reads up to {SCHEMA_VERSION}"
        raise WorkspaceError(f"{path} was written by a newer MedSeqFT ({known}); update MedSeqFT.")


def explain(error: ValidationError) -> str:
    """The first problem of a pydantic error as one line: which field, what is wrong."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return " ".join((f"field {field}: {message}" if field else message).split())


def remove_torn_line(path: Path) -> None:
    """Cut a file off behind its last newline. A file that is missing or whole is not touched. Raises OSError."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        size, block = file.seek(0, os.SEEK_END), _CHUNK
        while True:  # from its end: it may be long
            start = max(0, size - block)
            file.seek(start)
            kept = file.read(block).rfind(b"\n") + 1
            if kept or not start:
                break
            block *= 4
        if start + kept < size:
            file.truncate(start + kept)


def append_line(file: BinaryIO, path: Path, line: bytes, flush: bool) -> None:
    """Add a line to an unbuffered file that is open for appending at `path`: whole, or not at all.

    Args:
        flush: return only when it is on the disk.

    Raises OSError.
    """
    if file.write(line) != len(line):
        remove_torn_line(path)
        raise OSError("only a part of the line could be written; the disk may be full")
    if flush:
        os.fsync(file.fileno())
        if file.tell() == len(line):  # the first line: the file's name is new, too
            flush_folder(path.parent)


def refuse_too_little_room(folder: Path, size: int, what: str) -> None:
    """Raise StorageError if the disk of `folder`, or of where it will lie, has not `size` bytes free for `what`."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        needs = f"{what} needs {size / 2**30:.2f} GiB, but the disk of {there} has {free / 2**30:.2f} GiB free"
        raise StorageError(f"{needs}. Free some space, or choose another disk. Nothing was changed.")


def is_temporary(path: Path) -> bool:
    """True for the leavings of a write that never ended."""
    return path.name.startswith(TEMPORARY_PREFIX)


def visible_folders(folder: Path) -> list[Path]:
    """The folders in a folder by name, without hidden ones such as those of an unfinished write."""
    return [folder / name for name in folder_names(folder)]


def folder_names(folder: Path | str) -> list[str]:
    """The names of `visible_folders`, in a fraction of the time where there are thousands."""
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:  # which tells of most what they are, without a look at each
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def remove_leftovers(folder: Path, older_than: float = 0.0) -> None:
    """Remove what killed processes left in a folder; not what `workspace/outside.py` answers for.

    Args:
        older_than: seconds for which an entry must not have been written. 0 is for a folder that is only written under
            a lock, which the caller holds.
    """
    if folder.is_dir():
        for entry in folder.iterdir():
            ours = is_temporary(entry) and not entry.name.startswith(OUTSIDE_PREFIX)
            if ours and is_abandoned(entry, older_than):
                remove_path(entry)


def is_abandoned(entry: Path, seconds: float) -> bool:
    """True if nothing was written directly into a file or folder for so long."""
    if seconds <= 0:
        return True
    try:
        return time.time() - entry.stat().st_mtime > seconds
    except FileNotFoundError:  # its owner, who needs no lock, has just removed it
        return False


def flush_to_disk(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    with path.open("r+b") as file:  # Windows flushes only files that are open for writing
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the disk, where the system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows cannot open folders; there the rename itself is journalled
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FLUSH:
            raise
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Make a folder with all that lead to it; their names are on the disk when this returns. Raises OSError."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        flush_folder(path.parent)


def _flush_tree(folder: Path) -> None:
    entries = list(folder.rglob("*"))
    folders = [entry for entry in entries if entry.is_dir()]
    _for_each(flush_to_disk, [entry for entry in entries if not entry.is_dir()])
    _for_each(flush_folder, [*folders, folder])


def _for_each(flush: Callable[[Path], None], paths: list[Path]) -> None:
    """Of thousands several at once: a disk writes together what waits for it at the same time."""
    if len(paths) < _MANY:
        for path in paths:
            flush(path)
        return
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for _ in threads.map(flush, paths):  # raises what one of them raised
            pass


def _temporary_for(target: Path, within: Path | None) -> Path:
    return (within or target.parent) / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{''.join(target.suffixes)}"


def _replace(source: Path, target: Path, attempts: int = 5) -> None:
    """os.replace; virus scanners on Windows hold fresh files for a moment, hence the attempts."""
    for attempt in range(attempts):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if attempt == attempts - 1:
                raise
            time.sleep(0.1)


def remove_path(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
