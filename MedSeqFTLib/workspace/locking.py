"""One writer at a time, and a clean house for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.workspace.files import is_abandoned, remove_leftovers, storage_errors, visible_folders

STAGING_PREFIX = "staging-"
_ABANDONED = 24 * 3600.0  # seconds after which what is written without a lock has surely been left by a killed process


def acquire(lock: FileLock, folder: Path, timeout: float) -> AbstractContextManager[object]:
    """Acquire `lock` for the workspace in `folder`; the result releases it at the end of a `with`.

    Raises:
        WorkspaceError: another process holds it for longer than `timeout` seconds.
        StorageError: the lock file cannot be written.
    """
    with storage_errors(Path(lock.lock_file)):
        try:
            return lock.acquire(timeout=timeout)
        except Timeout as error:
            message = f"The workspace {folder} is in use by another process; try again when it is done."
            raise WorkspaceError(message) from error


def clear_leftovers(workspace: Path) -> None:
    """Remove what killed processes left: at once where only the holder of the lock writes, elsewhere after a day."""
    tasks = [*visible_folders(workspace / "cases"), *visible_folders(workspace / "segmentations")]
    for folder in (workspace, *(workspace / name for name in ("tasks", "models", "cases")), *tasks):
        remove_leftovers(folder)
    for folder in (*visible_folders(workspace / "drafts"), workspace / "jobs", workspace / "cache"):
        remove_leftovers(folder, _ABANDONED)
    for staging in (workspace / "cache").glob(f"{STAGING_PREFIX}*"):
        if is_abandoned(staging, _ABANDONED):
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def staging_folder(cache: Path) -> Iterator[Path]:
    """A fresh folder in `cache`; removed afterwards. Raises StorageError if it cannot be made."""
    with storage_errors(cache):
        cache.mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
