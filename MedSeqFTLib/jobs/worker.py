"""The worker: `python -m MedSeqFTLib.jobs.worker JOBFOLDER`. It alone imports torch, and outlives who started it.

Exit codes: 0 finished or cancelled, 1 failed, 2 unusable job folder, 3 another worker is busy in the workspace.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import psutil

from MedSeqFTLib.errors import MedSeqFTError, what_the_computer_lacks
from MedSeqFTLib.jobs import system
from MedSeqFTLib.jobs.events import Event, EventWriter
from MedSeqFTLib.jobs.job import Job, JobFolder, WorkerProcess, acquired_in_time
from MedSeqFTLib.jobs.reporter import Cancelled, Reporter
from MedSeqFTLib.quick_import import import_monai
from MedSeqFTLib.workspace.files import remove_leftovers, write_json
from MedSeqFTLib.workspace.workspace import Workspace

EXIT_FINISHED, EXIT_FAILED, EXIT_UNUSABLE, EXIT_BUSY = 0, 1, 2, 3
#: Long enough for another program's glance at the lock to pass.
_LOCK_TIMEOUT = 2.0  # seconds
_IMPORT_NAME = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"
_RUNNERS = {
    "adapt": "MedSeqFTLib.learning.adaptation:run_adaptation",
    "pretrain": "MedSeqFTLib.learning.pretraining:run_pretraining",
    "segment": "MedSeqFTLib.learning.errands:run_segmentation",
    "accept": "MedSeqFTLib.learning.errands:run_acceptance",
    "export": "MedSeqFTLib.learning.errands:run_export",
    "report": "MedSeqFTLib.jobs.reporting:run_report",
}
_WITHOUT_TORCH = {"accept", "export", "report"}

#: Does a job's work and returns the id of the model version that it made, if any. Raises MedSeqFTError for what the
#: user can mend, and lets Cancelled pass. A resumed job is run anew; its checkpoints are in the job's folder.
Runner = Callable[[Workspace, Job, Reporter], "str | None"]


def runner_for(kind: str, name: str | None = None) -> Runner:
    """The function that does a job's work.

    Args:
        kind: kind of the job.
        name: `package.module:function` that shall do the work instead, for instance a benchmark.

    Raises:
        ValueError: `name` is no import name, or the kind is unknown.
        ImportError, AttributeError: there is no such function.
    """
    if name is None and kind not in _WITHOUT_TORCH:
        import_monai()
    name = name or _RUNNERS.get(kind, "")
    if not re.fullmatch(_IMPORT_NAME, name, flags=re.ASCII):
        raise ValueError(f"no runner for job kind {kind!r}: {name!r} is not of the form package.module:function")
    module, function = name.split(":")
    runner: Runner = getattr(importlib.import_module(module), function)
    return runner


def main(arguments: list[str] | None = None) -> int:
    """Do the job of a folder. Returns the exit code."""
    options = _parser().parse_args(arguments)
    _prepare_log()
    try:
        folder = JobFolder(options.folder)
        workspace = Workspace.open(folder.path.parent.parent)
        job = folder.job
        lock = folder.lock()
        if not acquired_in_time(lock, _LOCK_TIMEOUT):
            return EXIT_BUSY
    except MedSeqFTError as error:
        print(error, file=sys.stderr)
        return EXIT_UNUSABLE
    try:
        return _work(workspace, job, folder, options.runner)
    finally:
        lock.release()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m MedSeqFTLib.jobs.worker", description="Do a job of a workspace.")
    parser.add_argument("folder", type=Path, help="the job's folder, which holds job.json")
    parser.add_argument("--runner", help=argparse.SUPPRESS)
    return parser


def _prepare_log() -> None:
    """Everything on stderr goes to worker.log: logging, warnings, and the stack of a crash in native code."""
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)


def _work(workspace: Workspace, job: Job, folder: JobFolder, runner: str | None) -> int:
    _yield_to_the_desktop(job)
    remove_leftovers(folder.checkpoint_folder)
    remove_leftovers(folder.path)
    with EventWriter(folder.events_path) as events:
        write_json(folder.process_path, WorkerProcess.of(os.getpid()))
        events.append(Event(kind="started", text="Loading the learning libraries."))
        closing = _closing_event(workspace, job, Reporter(folder.path, events, folder.cancel_path), runner)
        events.append(closing)
    return EXIT_FAILED if closing.kind == "failed" else EXIT_FINISHED


def _closing_event(workspace: Workspace, job: Job, reporter: Reporter, runner: str | None) -> Event:
    """Run the job and put its end in words. Here, and only here, a bug of any kind is caught."""
    try:
        version = runner_for(job.kind, runner)(workspace, job, reporter)
        return Event(kind="finished", version=version)
    except Cancelled:
        return Event(kind="cancelled")
    except MedSeqFTError as error:
        traceback.print_exc()
        return Event(kind="failed", text=str(error))
    except Exception as error:  # noqa: BLE001  # the boundary: a bug ends the job with a sentence, not in silence
        traceback.print_exc()
        return Event(kind="failed", text=f"{_described(error)}; see worker.log")


def _described(error: Exception) -> str:
    if lacking := what_the_computer_lacks(error, "resume the job: it goes on from its last checkpoint"):
        return lacking
    first_line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


def _yield_to_the_desktop(job: Job) -> None:
    """Let whoever sits at the machine go first. Numerical libraries read their threads when they are imported."""
    process = psutil.Process()
    process.nice(system.background_priority(int(process.nice())))
    system.let_threads_sleep()
    system.keep_freed_memory()
    chosen = job.settings.get("threads")
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        threads = chosen or os.environ.get(variable) or system.usable_cores()
        os.environ[variable] = str(threads)


if __name__ == "__main__":
    sys.exit(main())
