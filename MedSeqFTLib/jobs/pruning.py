"""Freeing space in a workspace: see MedSeqFTLib.workspace.pruning, and what finished jobs left."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from MedSeqFTLib.errors import StorageError
from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.job import acquired_in_time
from MedSeqFTLib.workspace.archive import archive_lock
from MedSeqFTLib.workspace.pruning import Item, item, prunable, remove
from MedSeqFTLib.workspace.workspace import Workspace

OLDER = timedelta(days=30)


def would_prune(workspace: Workspace, older: timedelta = OLDER) -> list[Item]:
    """What `prune` would take away. Changes nothing.

    Args:
        older: candidates that are younger keep their weights.

    Raises:
        WorkspaceError: a document is damaged; then nothing is known to be safe.
    """
    return [*prunable(workspace, older, _needed(workspace)), *_of_jobs(workspace)]


def prune(workspace: Workspace, older: timedelta = OLDER, by: str = "") -> list[Item]:
    """Take it away. Returns what was removed.

    Raises:
        WorkspaceBusy: a job makes a model version.
        WorkspaceError: another process exports, prunes or writes; or as `would_prune`.
        StorageError: something cannot be removed; pruning again goes on from there.
    """
    control.refuse_second_job(workspace)
    with archive_lock(workspace):
        adapting = workspace.adapting_lock()
        if not acquired_in_time(adapting, 0):
            control.refuse_second_job(workspace)
            raise StorageError(f"{adapting.lock_file} cannot be locked just now; try again.")
        try:
            with workspace.lock():
                items = would_prune(workspace, older)
                if items:
                    remove(workspace, items, by)
        finally:
            adapting.release()
    return items


def _needed(workspace: Workspace) -> set[str]:
    """Versions that jobs name and have not finished with."""
    unfinished = (folder.job for folder in control.list_jobs(workspace) if folder.state() != "finished")
    return {version for job in unfinished if isinstance(version := job.settings.get("version"), str)}


def _of_jobs(workspace: Workspace) -> Iterator[Item]:
    for folder in control.old_errands(workspace):
        yield item("errand", folder.id, "more than a day ago; its result is in the workspace", [folder.path])
    for folder in control.list_jobs(workspace):
        if folder.job.is_exclusive and folder.checkpoint_folder.is_dir() and folder.state() == "finished":
            yield item("checkpoints", folder.id, "the job is finished", [folder.checkpoint_folder])
