"""What may be taken away from a workspace to free space, and taking it away.

Never: what a person made (cases with all revisions, drafts, segmentations, tasks), documents, foundation models, and
every version that is or was current or that such a one descends from: going back, teachers and buffers need them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from MedSeqFTLib.workspace.audit import note
from MedSeqFTLib.workspace.files import is_temporary, storage_errors, write_json
from MedSeqFTLib.workspace.locking import STAGING_PREFIX
from MedSeqFTLib.workspace.person import person
from MedSeqFTLib.workspace.pruned import PRUNED_FILE, Pruned
from MedSeqFTLib.workspace.schema import ModelVersion, now
from MedSeqFTLib.workspace.workspace import Workspace

Kind = Literal["weights", "cache", "leftovers", "checkpoints", "errand"]
_ABANDONED = 24 * 3600.0  # seconds after which nobody is still writing a temporary file


@dataclass(frozen=True)
class Item:
    """One thing that may go. `paths` are removed with all that is in them."""

    kind: Kind
    name: str
    why: str
    paths: tuple[Path, ...]
    size: int  # bytes
    version: ModelVersion | None = None  # of kind "weights"


def item(kind: Kind, name: str, why: str, paths: Iterable[Path], version: ModelVersion | None = None) -> Item:
    """With the size that is on the disk now."""
    found = tuple(paths)
    return Item(kind, name, why, found, sum(_size(path) for path in found), version)


def prunable(workspace: Workspace, older: timedelta, needed: Collection[str] = ()) -> list[Item]:
    """What may go, jobs apart.

    Args:
        older: candidates that are younger stay.
        needed: versions that stay in any case.

    Raises:
        WorkspaceError: a document is damaged; then nothing is known to be safe.
    """
    return [*_weights(workspace, older, needed), *_cache(workspace), *_leftovers(workspace)]


def remove(workspace: Workspace, items: Collection[Item], by: str) -> None:
    """Take things away. Hold the workspace's lock. If this is cut short, pruning again goes on.

    First the audit log tells it, then every version's pruned.json, then the files go.

    Raises:
        StorageError: something cannot be written or removed.
    """
    new: dict[Path, Pruned] = {}
    for version in (found.version for found in items if found.version):
        path = workspace.version_folder(version.id) / PRUNED_FILE
        if not path.exists():
            new[path] = Pruned(files=tuple(version.files), who=person(by))
    freed = sum(found.size for found in items)
    subject = ", ".join(path.parent.name for path in new) or "no version"
    note(workspace, "pruned", subject, new, by, f"{len(items)} things, {freed} bytes")
    for path, document in new.items():
        write_json(path, document)
    for found in items:
        for path in found.paths:
            _remove(path)


def kept_versions(workspace: Workspace, older: timedelta, needed: Collection[str] = ()) -> dict[str, str]:
    """Versions whose weights stay, with the reason."""
    versions, pointers = workspace.versions(), workspace.pointers()
    moved = [(m.before, m.after, m.chain_before, m.chain_after) for m in pointers.history]
    reasons: dict[str, str] = {}
    for names, why in (
        ((pointers.chain, *pointers.tasks.values()), "current"),
        ((name for move in moved for name in move), "was current: one can go back to it"),
        ((version.id for version in versions if version.kind == "foundation"), "foundation model"),
        ({version.task: version.id for version in versions}.values(), "newest of its task"),
        (needed, "a job that is not finished needs it"),
        ((version.id for version in versions if now() - version.created < older), "young"),
    ):
        for name in names:
            if name is not None:
                reasons.setdefault(name, why)
    parents = {version.id: version.parent for version in versions}
    for kept in tuple(reasons):
        ancestor = parents.get(kept)
        while ancestor is not None:
            reasons.setdefault(ancestor, "others descend from it")
            ancestor = parents.get(ancestor)
    return reasons


def _weights(workspace: Workspace, older: timedelta, needed: Collection[str]) -> Iterator[Item]:
    kept = kept_versions(workspace, older, needed)
    for version in workspace.versions():
        folder = workspace.version_folder(version.id)
        files = [folder / name for name in version.files if (folder / name).is_file()]
        if version.id not in kept and files:
            why = f"candidate for {version.task} of {version.created:%Y-%m-%d}, never promoted"
            yield item("weights", version.id, why, files, version)


def _cache(workspace: Workspace) -> Iterator[Item]:
    """Without what is being staged: an abandoned one is removed whenever the workspace is locked."""
    folder = workspace.folder / "cache"
    found = [path for path in _entries(folder) if not path.name.startswith(STAGING_PREFIX) and not _is_fresh(path)]
    if found:
        yield item("cache", f"{len(found)} prepared cases", "made again when needed", found)


def _leftovers(workspace: Workspace) -> Iterator[Item]:
    """What killed processes left behind, except where a lock clears it away anyway."""
    every = (path for top in ("drafts", "segmentations", "jobs") for path in (workspace.folder / top).rglob("*"))
    found = [path for path in every if is_temporary(path) and not _is_fresh(path)]
    if found:
        yield item("leftovers", f"{len(found)} unfinished writes", "of processes that were killed", found)


def _is_fresh(path: Path) -> bool:
    """Somebody may still be writing this temporary entry. Finished ones are never fresh."""
    try:
        return is_temporary(path) and time.time() - path.stat().st_mtime < _ABANDONED
    except FileNotFoundError:
        return True


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; links are not followed."""
    total = 0
    for each in (path, *path.rglob("*")) if path.is_dir() and not path.is_symlink() else (path,):
        with suppress(FileNotFoundError):
            total += each.lstat().st_size if not each.is_dir() or each.is_symlink() else 0
    return total


def _remove(path: Path) -> None:
    with storage_errors(path), suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
