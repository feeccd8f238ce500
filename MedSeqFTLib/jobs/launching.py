"""Launching a worker process, and what is known of one that did not begin."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import MedSeqFTLib
from MedSeqFTLib.errors import JobError, WorkspaceError
from MedSeqFTLib.jobs import system
from MedSeqFTLib.jobs.events import Event, EventWriter, end_of_events
from MedSeqFTLib.jobs.job import JobFolder
from MedSeqFTLib.jobs.worker import EXIT_BUSY
from MedSeqFTLib.workspace.files import storage_errors

_POLL = 0.05  # seconds


class WorkspaceBusy(WorkspaceError):
    """Another job runs in the workspace. Nothing was changed on disk."""


def start_worker(folder: JobFolder, python: str | None, runner: str | None, timeout: float, wait: bool) -> None:
    offset = end_of_events(folder.events_path)
    if not wait:  # until the worker speaks, this is all that tells a job that begins from one that has ended
        append_event(folder, Event(kind="queued"))
    process = _launch(folder, python or sys.executable, runner)

    def look_after() -> None:
        """Someone must take notice of the worker's end, or it would stay a zombie as long as this program runs."""
        if not wait:
            _note_failed_start(process, folder, offset, timeout)
        process.wait()

    if wait:
        _wait_for_start(process, folder, offset, timeout)
    threading.Thread(target=look_after, name=f"end of {folder.id}", daemon=True).start()


def _note_failed_start(process: subprocess.Popen[bytes], folder: JobFolder, offset: int, timeout: float) -> None:
    """What `_wait_for_start` raises to a caller who waits becomes the job's end for one who does not."""
    try:
        _wait_for_start(process, folder, offset, timeout)
    except WorkspaceBusy as error:
        append_event(folder, Event(kind="failed", text=str(error)))
    except JobError:
        return  # `_not_begun` has marked the job


def _launch(folder: JobFolder, python: str, runner: str | None) -> subprocess.Popen[bytes]:
    command = [python, "-m", "MedSeqFTLib.jobs.worker", str(folder.path), *(["--runner", runner] if runner else [])]
    with storage_errors(folder.log_path):
        log = folder.log_path.open("ab")
    with log:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=worker_environment(os.environ),
                cwd=library_root(),  # Python looks for modules here: not in a folder of data
                **system.detached_process_arguments(),
            )
        except OSError as error:
            raise _not_begun(folder, f"cannot run {python} ({error.strerror or error})") from error


def _wait_for_start(process: subprocess.Popen[bytes], folder: JobFolder, offset: int, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        ended = process.poll() is not None  # asked first: what it wrote is then complete
        if any(event.kind == "started" for event in folder.events(offset)[0]):
            return
        if ended:
            _explain_early_end(process.returncode, folder)
        if time.monotonic() > deadline:
            system.kill_tree(process.pid)
            process.wait()
            raise _not_begun(folder, f"it did not begin within {timeout:g} seconds")
        time.sleep(_POLL)


def _explain_early_end(code: int, folder: JobFolder) -> None:
    if code == EXIT_BUSY:
        raise WorkspaceBusy("A job is already running on this workspace: another start came first.")
    raise _not_begun(folder, f"it ended with exit code {code}")


def _not_begun(folder: JobFolder, reason: str) -> JobError:
    """The error to raise; the job is marked as failed, since no worker lives that could do it."""
    append_event(folder, Event(kind="failed", text=f"The worker did not start: {reason}; see worker.log"))
    return JobError(f"The worker of job {folder.id} did not start: {reason}.\n{folder.log_tail(20)}".rstrip())


def append_event(folder: JobFolder, event: Event) -> None:
    with EventWriter(folder.events_path) as events:
        events.append(event)


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment: this MedSeqFTLib comes before any other, and the log is UTF-8 and unbuffered."""
    paths = [str(library_root()), environment.get("PYTHONPATH", "")]
    added = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    return {**environment, **added}


def library_root() -> Path:
    """The folder that holds MedSeqFTLib: where Python finds it, and no modules of a data folder."""
    return Path(MedSeqFTLib.__file__).absolute().parent.parent
