"""Start, watch, cancel and resume jobs. Runs in the user's program; imports neither torch nor SimpleITK."""

from __future__ import annotations

import shutil
import time
from collections.abc import Container, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from MedSeqFTLib.errors import InputError, JobError
from MedSeqFTLib.jobs import system
from MedSeqFTLib.jobs.events import Event
from MedSeqFTLib.jobs.job import (
    ACTIVE,
    EXCLUSIVE,
    JOB_FILE,
    RESUMABLE,
    Job,
    JobFolder,
    JobKind,
    JobState,
    job_folder,
    lock_is_held,
)
from MedSeqFTLib.jobs.launching import WorkspaceBusy, append_event, start_worker
from MedSeqFTLib.workspace.damage import all_of
from MedSeqFTLib.workspace.files import new_folder_atomically, storage_errors, write_json
from MedSeqFTLib.workspace.names import checked_name
from MedSeqFTLib.workspace.schema import now
from MedSeqFTLib.workspace.workspace import Workspace

START_TIMEOUT = 60.0  # seconds; a first start reads Python from a slow disk
_LOCK_PATIENCE = 2.0  # seconds that a worker may take to let go of the lock after its last event
_POLL = 0.05  # seconds
_ERRANDS_KEPT = timedelta(days=1)


def new_job(
    workspace: Workspace,
    kind: JobKind,
    task: str | None = None,
    settings: dict[str, JsonValue] | None = None,
    seed: int = 0,
) -> Job:
    """Describe a job, with an id that is free. Nothing is written."""
    created = now()
    base = job_id = f"{kind}-{created:%Y%m%d-%H%M%S}"
    number = 1
    while job_folder(workspace, job_id).path.exists():
        number += 1
        job_id = f"{base}-{number}"
    return Job(id=job_id, kind=kind, created=created, task=task, settings=settings or {}, seed=seed)


def start_job(
    workspace: Workspace,
    job: Job,
    *,
    python: str | None = None,
    runner: str | None = None,
    timeout: float = START_TIMEOUT,
    inputs: Path | None = None,
    wait: bool = True,
) -> JobFolder:
    """Write the job's folder, start its worker and wait until the worker has begun.

    Args:
        workspace: where the job works; one job at a time, errands apart.
        job: what to do, see `new_job`.
        python: the interpreter; inside Slicer the path of PythonSlicer. Default: the present one.
        runner: `package.module:function` that does the work instead of the kind's own (see MedSeqFTLib.jobs.worker).
        timeout: seconds to wait for the worker's first event.
        inputs: a folder on the workspace's disk, see Workspace.staging; its files become the job's `input`. They are
            on the disk when this returns.
        wait: False returns as soon as the process is launched. If it does not begin, the job becomes `failed`.

    Raises:
        WorkspaceBusy: another job is running; no folder is left behind.
        JobError: the worker did not begin. The message ends with the last lines of its log.
        StorageError: the job cannot be written.
    """
    checked_name(job.id, "job")
    if job.is_exclusive:
        refuse_second_job(workspace)
    folder = job_folder(workspace, job.id)
    with new_folder_atomically(folder.path) as temporary:
        if inputs is not None:
            _move_files(inputs, temporary / folder.input_folder.name)
        write_json(temporary / JOB_FILE, job)
    try:
        start_worker(folder, python, runner, timeout, wait)
    except WorkspaceBusy:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder


def resume(
    workspace: Workspace,
    job_id: str,
    *,
    python: str | None = None,
    runner: str | None = None,
    timeout: float = START_TIMEOUT,
    wait: bool = True,
) -> JobFolder:
    """Start a worker again on an interrupted, cancelled or failed job; it goes on from its last checkpoint.

    Arguments as of `start_job`.

    Raises:
        InputError: there is no such job.
        JobError: the job is running or finished, or the worker did not begin.
        WorkspaceBusy: another job is running.
    """
    folder = job(workspace, job_id)
    state = folder.state()
    if state not in RESUMABLE:
        raise JobError(f"Job {job_id} is {state}; only interrupted, cancelled and failed jobs can be resumed.")
    if folder.job.is_exclusive:
        refuse_second_job(workspace)
    with storage_errors(folder.cancel_path):
        folder.cancel_path.unlink(missing_ok=True)
    start_worker(folder, python, runner, timeout, wait)
    return folder


def request_cancel(folder: JobFolder) -> None:
    """Ask a job to stop and return at once; it stops at its next step. Raises JobError if it is not running."""
    state = folder.state()
    if state not in ACTIVE:
        raise JobError(f"Job {folder.id} is {state}; only a running job can be cancelled.")
    with storage_errors(folder.cancel_path):
        folder.cancel_path.touch()


def cancel(folder: JobFolder, grace_seconds: float = 10.0) -> JobState:
    """Ask a job to stop; after the grace period kill it with everything that it started.

    Returns:
        the state afterwards: cancelled, or finished or failed if it ended by itself meanwhile.

    Raises:
        JobError: the job is not running, or it did not stop in time and is another machine's or user's.
    """
    request_cancel(folder)
    deadline = time.monotonic() + grace_seconds
    while (folder.state() in ACTIVE or folder.worker_lives()) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return kill(folder)


def kill(folder: JobFolder) -> JobState:
    """End a job that does not react, with everything that it started. Returns and raises as `cancel`."""
    _kill_worker(folder)
    if folder.state() in ("interrupted", "queued"):
        append_event(folder, Event(kind="cancelled"))
    return folder.state()


def job(workspace: Workspace, job_id: str) -> JobFolder:
    """A job by its id. Raises InputError if there is none."""
    folder = job_folder(workspace, checked_name(job_id, "job"))
    if not (folder.path / JOB_FILE).is_file():
        known = ", ".join(found.id for found in list_jobs(workspace)) or "none yet"
        raise InputError(f"The workspace has no job {job_id!r} (jobs: {known}).")
    return folder


def list_jobs(workspace: Workspace) -> list[JobFolder]:
    """All jobs, oldest first.

    Raises WorkspaceError if the description of one is damaged, unless the list is only shown: see `damage`.
    """

    def read(path: Path) -> JobFolder:
        return JobFolder(path.parent, workspace.remembered.read(path, Job))

    paths = (workspace.folder / "jobs").glob(f"[!.]*/{JOB_FILE}")
    return sorted(all_of(partial(read, path) for path in paths), key=lambda folder: (folder.job.created, folder.id))


def running_job(workspace: Workspace, kinds: Container[str] | None = None) -> JobFolder | None:
    """The latest job, of some kinds if given, that is being worked on. Raises WorkspaceError if a folder is damaged."""
    jobs = (folder for folder in reversed(list_jobs(workspace)) if kinds is None or folder.job.kind in kinds)
    return next((folder for folder in jobs if folder.worker_lives()), None)


def watch(folder: JobFolder, offset: int = 0, interval: float = 0.2) -> Iterator[Event]:
    """Give a job's events as they come, until it ends or turns out to be interrupted. Raises WorkspaceError."""
    while True:
        active = folder.state() in ACTIVE  # asked first, so that no last event is missed
        events, offset = folder.events(offset)
        yield from events
        if not active:
            return
        time.sleep(interval)


def refuse_second_job(workspace: Workspace) -> None:
    """Raise WorkspaceBusy if a job runs in the workspace. The worker's lock has the last word: see launching."""
    if not lock_is_held(workspace.adapting_lock()):
        return
    running = running_job(workspace, EXCLUSIVE)
    if running is not None and running.state() in ACTIVE:
        raise _busy(running)
    if lock_is_held(workspace.adapting_lock(), _LOCK_PATIENCE):
        raise _busy(running_job(workspace, EXCLUSIVE))


def _busy(running: JobFolder | None) -> WorkspaceBusy:
    if running is None:
        return WorkspaceBusy("A job is already running on this workspace; wait until it is done.")
    name = " ".join(part for part in (running.job.kind, running.job.task) if part)
    return WorkspaceBusy(
        f"A job is already running on this workspace ({name}); "
        f"wait for it or stop it with: medseqft jobs cancel {running.id}"
    )


def _kill_worker(folder: JobFolder) -> None:
    process = folder.process()
    if process is None or not folder.worker_lives():
        return
    if not process.is_here:
        raise JobError(f"Job {folder.id} runs on {process.host} and has not stopped yet; it will at its next step.")
    try:
        system.kill_tree(process.pid, process.create_time)
    except PermissionError as error:
        raise JobError(f"Job {folder.id} cannot be stopped: {error}. It will stop at its next step.") from error


def discard(folder: JobFolder) -> None:
    """Remove a job with all that waits in it. Raises JobError if it is being worked on."""
    state = folder.state()
    if state in ACTIVE:  # a worker that has said its last word may still be leaving
        raise JobError(f"Job {folder.id} is {state}; cancel it first.")
    shutil.rmtree(folder.path, ignore_errors=True)


def clear_errands(workspace: Workspace) -> None:
    """Remove the folders of `old_errands`."""
    for folder in old_errands(workspace):
        shutil.rmtree(folder.path, ignore_errors=True)


def old_errands(workspace: Workspace) -> Iterator[JobFolder]:
    """Errands of more than a day ago: what they stored is in the workspace.

    A case that was accepted and is not stored holds what a person did: it stays for ever.
    """
    for folder in list_jobs(workspace):
        if folder.job.is_exclusive or now() - folder.job.created < _ERRANDS_KEPT:
            continue
        state = folder.state()
        if state == "finished" or (state not in ACTIVE and folder.job.kind != "accept"):
            yield folder


def _move_files(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        shutil.move(path, target / path.name)
