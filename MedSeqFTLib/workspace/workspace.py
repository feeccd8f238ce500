"""The workspace: the folder that holds tasks, cases, model versions and jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock

import MedSeqFTLib
from MedSeqFTLib.errors import InputError, WorkspaceError
from MedSeqFTLib.workspace.audit import note
from MedSeqFTLib.workspace.cases import CASE_FILE, IMAGE_FILE, segmentation_name, verify_case
from MedSeqFTLib.workspace.damage import all_of
from MedSeqFTLib.workspace.files import (
    make_folders,
    new_folder_atomically,
    read_json,
    storage_errors,
    visible_folders,
    write_json,
)
from MedSeqFTLib.workspace.locking import acquire, clear_leftovers, staging_folder
from MedSeqFTLib.workspace.names import checked_name, same_name
from MedSeqFTLib.workspace.policy import FROZEN, Policy
from MedSeqFTLib.workspace.pruned import refuse_pruned
from MedSeqFTLib.workspace.remembered import Remembered
from MedSeqFTLib.workspace.schema import Case, ModelVersion, Pointers, Role, Task, WorkspaceInfo
from MedSeqFTLib.workspace.versions import (
    VERSION_FILE,
    copy_verified,
    is_older,
    is_version_id,
    promoted,
    rolled_back,
    verify_files,
    version_number,
)

WORKSPACE_FILE = "workspace.json"
FOLDERS = ("tasks", "cases", "models", "jobs", "cache")
_LOCK_FILE = "workspace.lock"


class Workspace:
    """An open workspace. Reading needs no lock, since every write is one rename; writing takes `lock()` by itself."""

    def __init__(self, folder: Path, info: WorkspaceInfo) -> None:
        self.folder = folder
        self.info = info
        self.remembered = Remembered()
        self._lock = FileLock(str(folder / _LOCK_FILE))

    @classmethod
    def create(cls, folder: Path | str, *, anonymous: bool = False) -> Workspace:
        """Make a new workspace in a new or empty folder.

        Args:
            anonymous: keep no names of files, volumes and patients, for ever: see MedSeqFTLib.workspace.anonymity.

        Raises:
            InputError: the folder is a workspace already, or holds something else.
            StorageError: the folder cannot be written.
        """
        folder = Path(folder).expanduser().absolute()
        _refuse_occupied(folder)
        with storage_errors(folder):
            for name in FOLDERS:
                make_folders(folder / name)
        info = WorkspaceInfo(software=f"MedSeqFT {MedSeqFTLib.__version__}", anonymous=anonymous)
        workspace = cls(folder, info)
        with workspace.lock():
            _refuse_occupied(folder)
            write_json(folder / WORKSPACE_FILE, workspace.info)
        return workspace

    @classmethod
    def open(cls, folder: Path | str) -> Workspace:
        """Open a workspace.

        Raises:
            WorkspaceError: the folder is no workspace, or a newer program made it.
        """
        folder = Path(folder).expanduser().absolute()
        if not (folder / WORKSPACE_FILE).is_file():
            raise WorkspaceError(
                f"{folder} is no MedSeqFT workspace (no {WORKSPACE_FILE}); make one with: medseqft init"
            )
        return cls(folder, read_json(folder / WORKSPACE_FILE, WorkspaceInfo))

    @contextmanager
    def lock(self, timeout: float = 10.0) -> Iterator[None]:
        """Hold the workspace for writing; may be nested. Clears away what killed processes left behind.

        Args:
            timeout: seconds to wait for another process.

        Raises:
            WorkspaceError: another process still holds the workspace.
        """
        with acquire(self._lock, self.folder, timeout):
            if self._lock.lock_counter == 1:
                clear_leftovers(self.folder)
            yield

    def staging(self) -> AbstractContextManager[Path]:
        """A folder on the workspace's own disk for files that are being prepared; removed afterwards."""
        return staging_folder(self.folder / "cache")

    @property
    def job_lock_path(self) -> Path:
        return self.folder / "jobs" / "adapting.lock"

    def adapting_lock(self) -> FileLock:
        """The lock that a worker holds for its whole life, so that one job runs at a time. Not yet acquired."""
        return FileLock(str(self.job_lock_path))

    # tasks

    def add_task(self, task: Task) -> Task:
        """Store a new task. Raises InputError if the name is unusable or taken."""
        checked_name(task.name, "task")
        with self.lock():
            for existing in self.tasks():
                if same_name(existing.name, task.name):
                    raise InputError(f"The workspace has a task {existing.name} already; choose another name.")
            path = self._task_path(task.name)
            note(self, "task added", task.name, {path: task})
            write_json(path, task)
        return task

    def task(self, name: str) -> Task:
        """A task by its name.

        Raises:
            InputError: there is no such task.
            WorkspaceError: its file is damaged.
        """
        return self.remembered.read(self._task_path(self.known_task(name)), Task, name=name)

    def tasks(self) -> list[Task]:
        """All tasks, by name. Raises WorkspaceError if one is damaged, unless the list is only shown: see `damage`."""
        return all_of(partial(self.task, name) for name in self.task_names())

    def known_task(self, name: str) -> str:
        """The name of a task, whether its file can be read or not. Raises InputError if there is no such task."""
        names = self.task_names()
        if checked_name(name, "task") not in names:
            raise InputError(f"The workspace has no task {name!r} (tasks: {', '.join(names) or 'none yet'}).")
        return name

    def task_names(self) -> list[str]:
        """Of all tasks, whether their files can be read or not."""
        names = (path.stem for path in (self.folder / "tasks").glob("*.json"))
        return sorted(name for name in names if not name.startswith("."))

    def _task_path(self, name: str) -> Path:
        return self.folder / "tasks" / f"{name}.json"

    # cases (added with MedSeqFTLib.workspace.cases.accept_case)

    def case(self, task: str, case_id: str) -> Case:
        """A case of a task.

        Raises:
            InputError: there is no such case.
            WorkspaceError: its record is damaged.
        """
        folder = self.case_folder(task, case_id)
        if not folder.is_dir():
            raise InputError(f"Task {task} has no case {case_id!r}.")
        return read_json(folder / CASE_FILE, Case, task=task, id=case_id)

    def cases(self, task: str | None = None, role: Role | None = None) -> list[Case]:
        """Cases by task and id, of one task and one role if given.

        Raises:
            InputError: the task is unknown.
            WorkspaceError: the record of a case is damaged, unless the list is only shown: see `damage`.
        """
        tasks = self.task_names() if task is None else [self.known_task(task)]
        cases = [case for name in tasks for case in self._cases_of(name)]
        return [case for case in cases if role is None or case.role is role]

    def _cases_of(self, task: str) -> list[Case]:
        def expected(name: str) -> dict[str, str]:
            return {"task": task, "id": checked_name(name, "case")}

        return self.remembered.listed(self.folder / "cases" / task, 1, CASE_FILE, Case, expected)

    def case_folder(self, task: str, case_id: str) -> Path:
        return self.folder.joinpath("cases", checked_name(task, "task"), checked_name(case_id, "case"))

    def image_path(self, case: Case) -> Path:
        return self.case_folder(case.task, case.id) / IMAGE_FILE

    def segmentation_path(self, case: Case) -> Path:
        """Of the newest segmentation."""
        return self.case_folder(case.task, case.id) / segmentation_name(len(case.revisions) + 1)

    def segmentation_paths(self, case: Case) -> list[tuple[Path, str]]:
        """The files of all segmentations of a case with their checksums, the oldest first, the valid one last."""
        folder = self.case_folder(case.task, case.id)
        hashes = [*(earlier.segmentation_sha256 for earlier in case.revisions), case.segmentation_sha256]
        return [(folder / segmentation_name(number), sha256) for number, sha256 in enumerate(hashes, start=1)]

    def verify_case(self, case: Case) -> None:
        """Check the case's files against their checksums. Raises a WorkspaceError that names the damaged file."""
        verify_case(self, case)

    # model versions

    def versions(self) -> list[ModelVersion]:
        """All model versions, oldest first.

        Raises WorkspaceError if the record of one is damaged, unless the list is only shown: see `damage`.
        """
        return all_of(partial(self.version, name) for name in self._version_ids())

    def version(self, version_id: str) -> ModelVersion:
        """A model version.

        Raises:
            InputError: there is no such version.
            WorkspaceError: its record is damaged.
        """
        path = self.version_folder(version_id) / VERSION_FILE
        if not path.parent.is_dir():
            known = ", ".join(self._version_ids()) or "none yet"
            raise InputError(f"The workspace has no model version {version_id} (versions: {known}).")
        version = self.remembered.read(path, ModelVersion, id=version_id)
        if version.parent is not None and not is_older(version.parent, version_id):
            raise WorkspaceError(f"{path} is damaged: its parent, {version.parent}, is no older version.")
        return version

    def version_folder(self, version_id: str) -> Path:
        version_number(version_id)
        return self.folder / "models" / version_id

    def next_version_id(self) -> str:
        """M0 in a new workspace, then M1, M2, ... Hold `lock()` from here to `publish` if others may publish, too."""
        ids = self._version_ids()
        return f"M{version_number(ids[-1]) + 1}" if ids else "M0"

    def _version_ids(self) -> list[str]:
        names = (folder.name for folder in visible_folders(self.folder / "models"))
        return sorted((name for name in names if is_version_id(name)), key=version_number)

    def publish(self, version: ModelVersion, files_folder: Path) -> ModelVersion:
        """Copy the files that `version` declares into the workspace and make the version visible, as one step.

        Raises:
            InputError: a version of this name exists, or the parent does not.
            WorkspaceError: a declared file is missing or differs from its checksum.
            StorageError: a write failed; nothing of the version is visible.
        """
        target = self.version_folder(version.id)
        with self.lock(timeout=60.0):  # a long job ends here: rather wait than fail
            if target.exists():
                raise InputError(f"Model version {version.id} exists already; versions are never rewritten.")
            if version.parent is not None:
                self.version(version.parent)
            with new_folder_atomically(target) as folder:
                copy_verified(version, Path(files_folder), folder)
                write_json(folder / VERSION_FILE, version)
                note(self, "version made", version.id, {target / VERSION_FILE: version}, reason=version.note)
        return version

    def verify_version(self, version: ModelVersion) -> None:
        """Check the version's files against their checksums.

        Raises a WorkspaceError that names the damaged file, or says that the weights were pruned.
        """
        refuse_pruned(self.version_folder(version.id))
        verify_files(version, self.version_folder(version.id))

    # what is current

    @property
    def _pointers_path(self) -> Path:
        return self.folder / "models" / "current.json"

    def pointers(self) -> Pointers:
        """Which versions are current, and how that came to be."""
        return read_json(self._pointers_path, Pointers) if self._pointers_path.exists() else Pointers()

    @property
    def policy(self) -> Policy:
        """What the gate lets through, as it is on the disk now: another process may have changed it."""
        return read_json(self.folder / WORKSPACE_FILE, WorkspaceInfo).policy

    def change_policy(self, policy: Policy, who: str, reason: str) -> None:
        """Decide anew what the gate lets through. Raises InputError without a reason, or if nothing would change."""
        if not reason.strip():
            raise InputError("The policy of promotion is changed only with a reason, which is kept in the audit log.")
        with self.lock():
            path = self.folder / WORKSPACE_FILE
            info = read_json(path, WorkspaceInfo)
            if policy == info.policy:
                raise InputError(f"The policy of promotion is this already: {policy}.")
            changed = info.model_copy(update={"policy": policy})
            note(self, "policy changed", str(policy), {path: changed}, who, reason)
            write_json(path, changed)
            self.info = changed

    def promote(self, version_id: str, who: str, reason: str, verdict: str = "") -> Pointers:
        """Make a version current for its task, and the start of the next adaptation.

        Args:
            verdict: of the gate, where a person decides.

        Raises:
            InputError: the version is unknown, serves no task, or is current already; or the policy is "never".
            WorkspaceError: one of its files is damaged.
        """
        with self.lock():
            version = self.version(version_id)
            if self.policy.promotion == "never":
                raise InputError(f"{version_id} is not promoted. {FROZEN}")
            pointers = promoted(self.pointers(), version, who, reason, verdict)
            self.verify_version(version)
            note(self, "promoted", f"{version_id} for {version.task}", {self._pointers_path: pointers}, who, reason)
            write_json(self._pointers_path, pointers)
        return pointers

    def rollback(self, task: str, who: str, reason: str) -> ModelVersion | None:
        """Undo the last promotion of a task. Returns the version that is current now, None if there is none.

        Raises:
            InputError: the task is unknown or has no current version.
        """
        with self.lock():
            pointers = self.pointers()
            current = self.current_version(self.task(task).name)
            parent = current.parent if current else None
            pointers = rolled_back(pointers, task, parent, who, reason)
            note(self, "rolled back", task, {self._pointers_path: pointers}, who, reason)
            write_json(self._pointers_path, pointers)
        return self.current_version(task)

    def current_version(self, task: str) -> ModelVersion | None:
        """The version that segments a task now, None before the first promotion."""
        version_id = self.pointers().tasks.get(task)
        return self.version(version_id) if version_id is not None else None

    def chain_version(self) -> ModelVersion | None:
        """The version that the next adaptation starts from: the chain, or else the newest foundation model."""
        chain = self.pointers().chain
        if chain is not None:
            return self.version(chain)
        foundations = [version for version in self.versions() if version.kind == "foundation"]
        return foundations[-1] if foundations else None

    def foundation_of(self, version: ModelVersion | None) -> ModelVersion | None:
        """M_0 of a version's lineage."""
        return next((ancestor for ancestor in self.lineage(version) if ancestor.parent is None), None)

    def lineage(self, version: ModelVersion | None) -> Iterator[ModelVersion]:
        """A version and all that it descends from, newest first."""
        while version is not None:
            yield version
            version = self.version(version.parent) if version.parent is not None else None


def _refuse_occupied(folder: Path) -> None:
    if (folder / WORKSPACE_FILE).exists():
        raise InputError(f"{folder} is a MedSeqFT workspace already.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; a workspace needs a folder.")
    known = {*FOLDERS, _LOCK_FILE}
    if folder.is_dir() and any(path.name not in known and not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(f"{folder} is not empty; make the workspace in a new or empty folder.")
