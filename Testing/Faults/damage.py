"""Truncated and bit-flipped files of every kind: found, named, and everything else still usable."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from Faults.acts import opened
from Faults.bench import Kind
from Faults.checks import Lost
from Faults.samples import TASK
from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.jobs import control
from MedSeqFTLib.workspace import audit_check
from MedSeqFTLib.workspace.damage import shown_only
from MedSeqFTLib.workspace.drafts import DRAFT_FILE, Draft, draft_path, drafts
from MedSeqFTLib.workspace.files import read_json, visible_folders
from MedSeqFTLib.workspace.schema import Segmentation
from MedSeqFTLib.workspace.segmentations import RECORD_FILE, folder_of, segmentations, verify_segmentation
from MedSeqFTLib.workspace.workspace import Workspace

#: Files whose content nobody relies on: locks, which process works, the log of a worker, lists that are made again.
_WORTHLESS = (".lock", "process.json", "worker.log", "worker.log.1", ".jsonl.tmp")
#: Found by nobody who verifies, but made again (cache, thumbnails) or refused when a job goes on (its checkpoints).
_MADE_AGAIN = ("cache/", "likeness/", "/checkpoints/", "/selection")


def _flip(data: bytes, choose: random.Random) -> bytes:
    place = choose.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << choose.randrange(8))]) + data[place + 1 :]


def _cut(data: bytes, choose: random.Random) -> bytes:
    return data[: choose.randrange(len(data))]


class Damage(Kind):
    name = "damaged file"
    what = (
        "every file of a workspace in turn has one bit flipped, is cut off at a random place, is emptied; it is found "
        "and named by verifying or by reading, and every other item can be read, verified and listed. What can be made "
        "again (cache, thumbnails, checkpoints) is not asked to be named: the next adaptation must succeed, or name it"
    )
    few = 6
    _ways: tuple[tuple[str, Callable[[bytes, random.Random], bytes]], ...] = (
        ("one bit flipped", _flip),
        ("one bit flipped elsewhere", _flip),
        ("cut off", _cut),
        ("emptied", lambda data, choose: b""),
    )

    @cached_property
    def _plan(self) -> list[tuple[str, int]]:
        with self.bench.fresh() as folder:
            base = folder / "workspace"
            files = sorted(path for path in base.rglob("*") if path.is_file() and path.stat().st_size)
            names = [path.relative_to(base).as_posix() for path in files]
        return [(name, way) for name in names if not name.endswith(_WORTHLESS) for way in range(len(self._ways))]

    @property
    def trials(self) -> int:
        return len(self._plan)

    def run(self, seed: int) -> str:
        name, number = self._plan[seed]
        way, damage = self._ways[number]
        with self.bench.fresh() as folder:
            path = folder / "workspace" / self._name_here(folder, name)
            before = listed(folder)
            path.write_bytes(damage(path.read_bytes(), random.Random(seed)))
            if any(part in f"{name}" for part in _MADE_AGAIN):
                return f"{name}, {way}: {self._learn(folder, path)}"
            told = problems(folder / "workspace")
            naming = [line for line in told if path.name in line]
            if not naming:
                raise Lost(f"{name}, {way}: nobody finds it")
            if path.name != "workspace.json":  # without which it is no workspace: it comes back from a backup
                self._others_are_usable(folder, path)
                self._others_are_listed(folder, path, before)
        return f"{name}, {way}: {naming[0]}"

    def _name_here(self, folder: Path, name: str) -> str:
        return name

    def _learn(self, folder: Path, path: Path) -> str:
        """An adaptation succeeds in spite of it, or says which file is damaged."""
        ended = self.bench.server.run("Faults.acts:perform", "adapt", folder)
        if ended.how == "bug" or (ended.how == "refused" and path.name not in ended.text):
            raise Lost(f"{path.name} is damaged: {ended.text}")
        return f"adapting: {ended.how}"

    def _others_are_usable(self, folder: Path, damaged: Path) -> None:
        for what, read in items(folder / "workspace"):
            if not damaged.is_relative_to(what):
                try:
                    read()
                except MedSeqFTError as error:
                    raise Lost(f"{damaged.name} is damaged, and {what.name} cannot be used: {error}") from error

    def _others_are_listed(self, folder: Path, damaged: Path, before: set[Path]) -> None:
        """Lists that are shown leave out nothing else."""
        hidden = sorted(path.name for path in before - listed(folder) if not damaged.is_relative_to(path))
        if hidden:
            raise Lost(f"{damaged.name} is damaged, and hides {', '.join(hidden)}")


def listed(folder: Path) -> set[Path]:
    """Everything that stands in a list which is shown, by its file or folder."""
    workspace = opened(folder)
    base = workspace.folder
    with shown_only():
        return {
            *(base / "tasks" / f"{task.name}.json" for task in workspace.tasks()),
            *(workspace.case_folder(case.task, case.id) for case in workspace.cases()),
            *(workspace.version_folder(version.id) for version in workspace.versions()),
            *(folder_of(workspace, record) for record in segmentations(workspace, TASK)),
            *(base / "drafts" / TASK / draft.id for draft in drafts(workspace, TASK)),
            *(job.path for job in control.list_jobs(workspace)),
        }


def problems(folder: Path) -> list[str]:
    """All that verifying and reading find."""
    try:
        workspace = Workspace.open(folder)
    except MedSeqFTError as error:
        return [str(error)]
    told = list(audit_check.verify(workspace).problems)
    for _, read in items(folder):
        try:
            told += read() or []
        except MedSeqFTError as error:
            told.append(str(error))
    return told


def items(folder: Path) -> Iterator[tuple[Path, Callable[[], list[str] | None]]]:
    """What stands alone in a workspace, and how it is read: cases, versions, segmentations, drafts, jobs."""
    workspace = opened(folder.parent) if (folder / "workspace.json").stat().st_size else None
    if workspace is None:
        return
    for case in visible_folders(folder / "cases" / TASK):
        yield case, lambda case=case: workspace.verify_case(workspace.case(TASK, case.name))
    for version in visible_folders(folder / "models"):
        yield version, lambda version=version: workspace.verify_version(workspace.version(version.name))
    for record in visible_folders(folder / "segmentations" / TASK / "segmented"):
        yield record, lambda record=record: _segmentation(workspace, record)
    for draft in visible_folders(folder / "drafts" / TASK):
        yield draft, lambda draft=draft: _draft(workspace, draft)
    for job in visible_folders(folder / "jobs"):
        yield job, lambda job=job: _job(workspace, job)


def _segmentation(workspace: Workspace, folder: Path) -> None:
    verify_segmentation(workspace, read_json(folder / RECORD_FILE, Segmentation))


def _draft(workspace: Workspace, folder: Path) -> None:
    draft_path(workspace, read_json(folder / DRAFT_FILE, Draft))


def _job(workspace: Workspace, folder: Path) -> list[str]:
    """The warnings that tell of damaged lines of its events; a file that ends too early has no last word."""
    job = control.job(workspace, folder.name)
    assert job.job.kind
    warnings = job.progress().warnings
    return warnings if job.state() == "finished" else [*warnings, f"{job.events_path.name}: the job is {job.state()}"]
