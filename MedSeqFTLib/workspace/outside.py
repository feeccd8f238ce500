"""Writing into a folder that is no part of a workspace, where no workspace's lock tells who is writing.

What is being written lies in a hidden folder beside its target, and beside that a file which its writer keeps locked.
The system takes the lock of a process that ends, however it ends. So whoever gets hold of a lock that is not its own
knows that nobody writes there any more.
"""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from MedSeqFTLib.workspace.files import OUTSIDE_PREFIX, make_folders, remove_path, storage_errors

_LOCK = ".lock"
_OURS = re.compile(rf"({re.escape(OUTSIDE_PREFIX)}[0-9a-f]{{12}})({re.escape(_LOCK)})?")
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}  # some network shares
_PATIENCE = 10.0  # seconds; whoever clears holds a lock for a moment


@contextmanager
def staging_in(folder: Path) -> Iterator[Path]:
    """A fresh hidden folder in `folder`, which is made if it is missing; removed afterwards.

    Give it as `within` to `atomic_path` and its like. What killed processes left in `folder` is removed first.

    Raises StorageError.
    """
    staging = folder / f"{OUTSIDE_PREFIX}{uuid.uuid4().hex[:12]}"
    lock = _lock_of(staging)
    with storage_errors(folder):
        make_folders(folder)
        with suppress(PermissionError):  # a folder into which one may only write
            _clear(folder)
        try:
            lock.acquire(timeout=_PATIENCE)
        except OSError as error:  # where nobody can lock, nobody clears, either
            if error.errno not in _NO_LOCKS:
                raise
    try:
        with storage_errors(folder):
            staging.mkdir()
        yield staging
    finally:
        _let_go(staging, lock)


def _clear(folder: Path) -> None:
    with os.scandir(folder) as entries:
        ours = {found[1] for entry in entries if (found := _OURS.fullmatch(entry.name))}
    for name in ours:
        lock = _lock_of(folder / name)
        with suppress(OSError):  # another process writes there, or it is another person's
            lock.acquire(timeout=0)
            _let_go(folder / name, lock)


def _lock_of(staging: Path) -> FileLock:
    return FileLock(f"{staging}{_LOCK}")


def _let_go(staging: Path, lock: FileLock) -> None:
    """Remove a staging folder, then its lock file, still held: Windows does the latter when it is released."""
    remove_path(staging)
    remove_path(Path(lock.lock_file))
    lock.release()
