"""Model versions on disk and the pointers that say which of them are current."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from MedSeqFTLib.errors import InputError, WorkspaceError
from MedSeqFTLib.workspace.files import check_sha256
from MedSeqFTLib.workspace.names import inner_path
from MedSeqFTLib.workspace.schema import ModelVersion, PointerMove, Pointers

VERSION_FILE = "version.json"
_VERSION_ID = re.compile(r"M(0|[1-9][0-9]{0,8})")


def version_number(version_id: str) -> int:
    """The number of a version: 3 for "M3".

    Raises:
        InputError: not a version's name.
    """
    match = _VERSION_ID.fullmatch(version_id)
    if not match:
        raise InputError(f"{version_id!r} is not a model version; versions are named M0, M1, M2, ...")
    return int(match[1])


def is_version_id(text: str) -> bool:
    return _VERSION_ID.fullmatch(text) is not None


def is_older(version_id: str, than: str) -> bool:
    """True if a version can be an ancestor of another: lineages have no rings."""
    return is_version_id(version_id) and version_number(version_id) < version_number(than)


def copy_verified(version: ModelVersion, source: Path, target: Path) -> None:
    """Copy the files that `version` declares from one folder to another and check every copy.

    Raises:
        WorkspaceError: a declared file is missing, differs from its checksum, or would lie outside the folder.
    """
    for name, declared in version.files.items():
        refuse_outside(name, version.id)
        file, copy = source / name, target / name
        if file.is_symlink() or not file.is_file():
            raise WorkspaceError(f"Version {version.id} declares {name}, but {file} is not a file.")
        check_sha256(file, declared)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        check_sha256(copy, declared)


def verify_files(version: ModelVersion, folder: Path) -> None:
    """Check the checksums of a stored version.

    Raises:
        WorkspaceError: a file is missing or damaged; the message names it.
    """
    for name, declared in version.files.items():
        refuse_outside(name, version.id)
        check_sha256(folder / name, declared)


def refuse_outside(name: str, version_id: str) -> None:
    """Raise WorkspaceError if a file that a version declares would lie outside its folder."""
    if not name or "/".join(inner_path(name) or ()) != name or name.casefold() == VERSION_FILE:
        raise WorkspaceError(f"Version {version_id} declares the file {name!r}, which is not a path inside its folder.")


def promoted(pointers: Pointers, version: ModelVersion, who: str, reason: str, verdict: str = "") -> Pointers:
    """Make `version` current for its task and for the chain.

    Raises:
        InputError: the version serves no task, or is current already.
    """
    if version.task is None:
        raise InputError(f"{version.id} is a foundation model; only a version that segments a task can be promoted.")
    before = pointers.tasks.get(version.task)
    if before == version.id:
        raise InputError(f"{version.id} is already the current version of task {version.task}.")
    move = PointerMove(
        kind="promote",
        who=who,
        task=version.task,
        before=before,
        after=version.id,
        chain_before=pointers.chain,
        chain_after=version.id,
        reason=reason,
        verdict=verdict,
    )
    return _moved(pointers, move)


def rolled_back(pointers: Pointers, task: str, parent: str | None, who: str, reason: str) -> Pointers:
    """Undo the last promotion of `task` that still stands.

    Args:
        parent: the parent of the task's current version; the chain returns to it if the chain is that version.

    Raises:
        InputError: nothing is current for this task.
    """
    current = pointers.tasks.get(task)
    if current is None:
        raise InputError(f"Task {task} has no current version, so there is nothing to roll back.")
    move = PointerMove(
        kind="rollback",
        who=who,
        task=task,
        before=current,
        after=_standing(pointers, task)[-1].before,
        chain_before=pointers.chain,
        chain_after=parent if pointers.chain == current else pointers.chain,
        reason=reason,
    )
    return _moved(pointers, move)


def _standing(pointers: Pointers, task: str) -> list[PointerMove]:
    """The promotions of a task that no rollback has undone, oldest first."""
    standing: list[PointerMove] = []
    for move in pointers.history:
        if move.task == task:
            if move.kind == "promote":
                standing.append(move)
            elif standing:
                standing.pop()
    if not standing or standing[-1].after != pointers.tasks.get(task):
        raise WorkspaceError(
            f"models/current.json is damaged: its history does not lead to the current version of {task}."
        )
    return standing


def _moved(pointers: Pointers, move: PointerMove) -> Pointers:
    tasks = {task: version for task, version in pointers.tasks.items() if task != move.task}
    if move.after is not None:
        tasks[move.task] = move.after
    return Pointers(chain=move.chain_after, tasks=tasks, history=(*pointers.history, move))
