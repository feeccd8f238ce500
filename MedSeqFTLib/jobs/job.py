"""A job: one background run, described by job.json in its own folder. What it is doing is read off, never stored."""

from __future__ import annotations

import platform
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import Field, JsonValue, model_validator

from MedSeqFTLib.jobs import log, system
from MedSeqFTLib.jobs.events import CLOSING, Event, Progress, last_event, moment, read_events, thinned_events
from MedSeqFTLib.learning.errand_settings import INPUT_FOLDER, RESULT_FILE
from MedSeqFTLib.workspace.files import read_json, storage_errors
from MedSeqFTLib.workspace.remembered import Stamp, settled_stamp
from MedSeqFTLib.workspace.schema import Document, Name, now
from MedSeqFTLib.workspace.workspace import Workspace

JobKind = Literal["pretrain", "adapt", "segment", "accept", "export", "report"]
JobState = Literal["queued", "running", "cancelling", "cancelled", "failed", "finished", "interrupted"]
JOB_FILE = "job.json"
REPORT_FILE = "report.html"  # in the workspace's folder; what a job of kind "report" writes
#: What is about the whole workspace. All other kinds need a task.
WITHOUT_TASK: frozenset[str] = frozenset({"pretrain", "report"})
#: What makes model versions: one such job at a time in a workspace. The others are errands, which run beside it.
EXCLUSIVE: frozenset[str] = frozenset({"pretrain", "adapt"})
#: A worker exists, or is about to: nothing else may be started.
ACTIVE: frozenset[str] = frozenset({"queued", "running", "cancelling"})
RESUMABLE: frozenset[str] = frozenset({"interrupted", "cancelled", "failed", "queued"})
#: What was read of jobs that have ended: there may be thousands of them, and events are only ever appended.
_ENDED: dict[str, tuple[Stamp, JobState]] = {}
_LONGEST_START = timedelta(seconds=90)  # longer than control.START_TIMEOUT: who starts a worker gives up before


class Job(Document):
    """job.json: what to do. Written once, before the worker starts."""

    id: Name
    kind: JobKind
    created: datetime = Field(default_factory=now)
    task: Name | None = None  # of every kind that is not WITHOUT_TASK
    settings: dict[str, JsonValue] = Field(default_factory=dict)  # of MedSeqFTLib.learning.settings or errand_settings
    seed: int = 0

    @model_validator(mode="after")
    def _most_kinds_need_a_task(self) -> Job:
        if self.kind not in WITHOUT_TASK and self.task is None:
            raise ValueError(f"a job of kind {self.kind} needs a task")
        return self

    @property
    def is_exclusive(self) -> bool:
        """False for an errand, which may run beside other jobs."""
        return self.kind in EXCLUSIVE


class WorkerProcess(Document):
    """process.json: which process works on the job, written by that process. The number alone may be used again."""

    pid: int
    create_time: float  # seconds since 1970
    host: str

    @classmethod
    def of(cls, pid: int) -> WorkerProcess:
        """A process of this machine."""
        return cls(pid=pid, create_time=system.create_time(pid), host=platform.node())

    @property
    def is_here(self) -> bool:
        return self.host == platform.node()

    def runs(self) -> bool:
        """True if it still runs. Can only be told on its own machine."""
        return system.process_is(self.pid, self.create_time)


class JobFolder:
    """jobs/ID of a workspace: job.json, events.jsonl, process.json, worker.log, checkpoints; `cancel` if asked for.

    An errand also has `input`, the files that it works on, until it is finished; then result.json, the record that it
    stored in the workspace.
    """

    def __init__(self, path: Path | str, job: Job | None = None) -> None:
        """Of a path; `job` is what its job.json says, if that is known."""
        self.path = Path(path).absolute()
        self._job = job
        self.events_path = self.path / "events.jsonl"
        self.cancel_path = self.path / "cancel"
        self.checkpoint_folder = self.path / "checkpoints"
        self.log_path = self.path / log.LOG_FILE
        self.process_path = self.path / "process.json"
        self.input_folder = self.path / INPUT_FOLDER
        self.result_path = self.path / RESULT_FILE

    @cached_property
    def job(self) -> Job:
        """The description. Raises WorkspaceError if it is missing or damaged."""
        return self._job or read_json(self.path / JOB_FILE, Job)

    @property
    def id(self) -> str:
        return self.path.name

    def process(self) -> WorkerProcess | None:
        """The process that works or worked on the job; None before the first start."""
        return read_json(self.process_path, WorkerProcess) if self.process_path.exists() else None

    def state(self) -> JobState:
        """What has become of the job, from its last event and whether its process lives.

        `interrupted`: the process is gone without having said why (killed, power loss); the job can be resumed.
        Raises WorkspaceError if the folder cannot be read.
        """
        stamp = settled_stamp(self.events_path)
        known = _ENDED.get(str(self.path))
        if stamp is not None and known is not None and known[0] == stamp:
            return known[1]
        state = self._state()
        if stamp is not None and state in CLOSING:  # the last event says so, whatever lives, until there is another
            _ENDED[str(self.path)] = (stamp, state)
        return state

    def _state(self) -> JobState:
        alive = self.worker_lives()  # asked first: a worker that ends meanwhile has then written its last event
        last = last_event(self.events_path)
        if last is not None and last.kind in CLOSING:
            return last.kind  # type: ignore[return-value]  # the closing kinds are states
        if alive or self.worker_lives():  # a resumed worker may just have begun
            return _state_of_living(self.cancel_path.exists(), last)
        if last is not None and last.kind == "queued" and moment() - last.time < _LONGEST_START:
            return "queued"
        return "interrupted" if last is not None or self.process_path.exists() else "queued"

    def events(self, offset: int = 0) -> tuple[list[Event], int]:
        """The events from a byte offset on, and the offset for the next call. Raises WorkspaceError."""
        return read_events(self.events_path, offset)

    def thinned_events(self) -> tuple[list[Event], int]:
        """Of the whole stream what a curve or a summary needs: see `events.thinned_events`."""
        return thinned_events(self.events_path)

    def progress(self) -> Progress:
        """All events so far, summed up. Raises WorkspaceError."""
        progress = Progress()
        for event in self.thinned_events()[0]:
            progress.follow(event)
        return progress

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of worker.log; empty if there is none."""
        return log.tail(self.log_path, lines)

    def worker_lives(self) -> bool:
        """True while a process works on the job. Raises WorkspaceError if process.json is damaged."""
        process = self.process()
        if process is None:
            return False
        return process.runs() if process.is_here else self._lock_is_held()

    def lock(self) -> FileLock:
        """What the worker holds for its whole life: the workspace's lock for adapting, an errand its own."""
        if self.job.is_exclusive:
            return Workspace.open(self.path.parent.parent).adapting_lock()
        return FileLock(str(self.path / "worker.lock"))

    def _lock_is_held(self) -> bool:
        """For a worker on another machine that shares the folder: its process cannot be seen, its lock can."""
        return lock_is_held(self.lock())


def _state_of_living(cancel_asked: bool, last: Event | None) -> JobState:
    if cancel_asked:
        return "cancelling"
    return "queued" if last is None else "running"


def acquired_in_time(lock: FileLock, timeout: float) -> bool:
    """Acquire the lock; False if another process keeps it for `timeout` seconds. Raises StorageError."""
    with storage_errors(Path(lock.lock_file)):
        try:
            lock.acquire(timeout=timeout)
        except Timeout:  # an OSError, too, but not one of the disk
            return False
    return True


def lock_is_held(lock: FileLock, timeout: float = 0.0) -> bool:
    """True if another process holds the lock and keeps it for `timeout` seconds. Raises StorageError."""
    if not acquired_in_time(lock, timeout):
        return True
    lock.release()
    return False


def job_folder(workspace: Workspace, job_id: str) -> JobFolder:
    """Where a job lies or will lie."""
    return JobFolder(workspace.folder / "jobs" / job_id)
