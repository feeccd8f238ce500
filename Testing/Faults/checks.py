"""Nothing lost, nothing half-written, next start works: what every trial looks at afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from Faults.acts import ACTS, Act, opened
from Faults.children import Ended, Server
from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.jobs.control import list_jobs
from MedSeqFTLib.workspace import audit_check
from MedSeqFTLib.workspace.drafts import drafts
from MedSeqFTLib.workspace.files import is_temporary, sha256_of
from MedSeqFTLib.workspace.segmentations import segmentations, verify_segmentation
from MedSeqFTLib.workspace.workspace import Workspace

_TWO_DAYS = 2 * 24 * 3600.0
#: Not what a person made: a lock, what a worker says of itself, what may be deleted at any time.
_NOT_WORK = ("*.lock", "*/process.json", "*/worker.log*", "workspace/cache/*", "workspace/likeness/*")


class Lost(Exception):
    """A trial that was not survived, and why."""


@dataclass(frozen=True)
class Before:
    """What a workspace held: path below the folder of the trial -> hash, and its pointers."""

    files: dict[str, str]
    current: str


def note(folder: Path) -> Before:
    """Take down what there is before something goes wrong."""
    return Before(dict(_files(folder)), opened(folder).pointers().tasks["balls"])


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(fnmatch(name, pattern) for pattern in _NOT_WORK):
            yield name, sha256_of(path)


def intact(folder: Path, before: Before, act: Act | None) -> None:
    """Everything that was there is there, is whole and can be read. Raises Lost."""
    nothing_lost(folder, before, act.changes if act else ())


def nothing_lost(folder: Path, before: Before, may_change: tuple[str, ...]) -> None:
    """The same, with the paths that may have changed. Raises Lost."""
    try:
        workspace = opened(folder)
        _nothing_changed(folder, before, may_change)
        _all_can_be_read(workspace)
        problems = audit_check.verify(workspace).problems
    except MedSeqFTError as error:
        raise Lost(f"the workspace cannot be read any more: {error}") from error
    if problems:
        raise Lost(f"audit verify: {problems[0]}")


def _nothing_changed(folder: Path, before: Before, may_change: tuple[str, ...]) -> None:
    now = dict(_files(folder))
    for name, sha256 in before.files.items():
        if name not in now:
            raise Lost(f"{name} is gone")
        if now[name] != sha256 and not any(fnmatch(name, pattern) for pattern in may_change):
            raise Lost(f"{name} has changed")


def _all_can_be_read(workspace: Workspace) -> None:
    for task in workspace.tasks():
        for record in segmentations(workspace, task.name):
            verify_segmentation(workspace, record)
        drafts(workspace, task.name)
    for job in list_jobs(workspace):
        job.state()
        job.progress()


def can_be_done_again(folder: Path, before: Before, act: Act, server: Server) -> None:
    """Do the act, unless it is done; then it is visibly done, and no rest of the fault lies about. Raises Lost."""
    try:
        done = act.done(folder)
    except (MedSeqFTError, AssertionError) as error:
        raise Lost(f"after the fault: {error}") from error
    if not done:
        ended = server.run("Faults.acts:perform", act.name, folder)
        if ended.how != "done":
            raise Lost(f"{act.name} cannot be done again: {ended.text}")
        if not act.done(folder):
            raise Lost(f"{act.name} was done again, and does not show")
        _none_left(_leftovers(folder / "out"))  # by the next export or import
    intact(folder, before, act)
    no_leftovers(folder)


def no_leftovers(folder: Path) -> None:
    """What interrupted writes left is cleared by the next writer; where nobody locks, once it is a day old."""
    workspace = opened(folder)
    long_ago = time.time() - _TWO_DAYS
    for path in _leftovers(workspace.folder):
        os.utime(path, (long_ago, long_ago))
    with workspace.lock():
        pass
    _none_left(_leftovers(workspace.folder))


def _none_left(leftovers: list[Path]) -> None:
    if leftovers:
        raise Lost(f"never cleared away: {', '.join(map(str, leftovers))}")


def _leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if is_temporary(path) or path.name.startswith("staging-")]


def no_bug(ended: Ended) -> None:
    """Only the product's own errors come out. Raises Lost."""
    if ended.how == "bug":
        raise Lost(f"not one of our own errors: {ended.text}")


def survived(folder: Path, before: Before, name: str, ended: Ended, server: Server) -> str:
    """All checks of a trial. Returns how the act ended."""
    act = ACTS[name]
    no_bug(ended)
    if ended.how == "done" and not act.done(folder):
        raise Lost(f"{name} said that it was done, and does not show")
    intact(folder, before, act)
    can_be_done_again(folder, before, act, server)
    return ended.how
