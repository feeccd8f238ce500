"""Small real runners for the tests of jobs. The worker process imports them by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil

from MedSeqFTLib.errors import InputError, JobError
from MedSeqFTLib.jobs.job import Job
from MedSeqFTLib.jobs.reporter import Reporter
from MedSeqFTLib.workspace.files import write_bytes_atomically
from MedSeqFTLib.workspace.workspace import Workspace


def count(workspace: Workspace, job: Job, reporter: Reporter) -> str:
    """Counts to settings["steps"], resting settings["pause"] seconds each; goes on from its checkpoint."""
    steps, pause = int(job.settings["steps"]), float(job.settings["pause"])
    checkpoint = reporter.folder / "checkpoints" / "step.txt"
    checkpoint.parent.mkdir(exist_ok=True)
    done = int(checkpoint.read_text(encoding="utf-8")) if checkpoint.exists() else 0
    reporter.plan([("count", steps)])
    reporter.device("cpu")
    reporter.stage("count", steps, done=done)
    for step in range(done + 1, steps + 1):
        time.sleep(pause)
        write_bytes_atomically(checkpoint, str(step).encode())
        reporter.step(step, {"dice": 1.0 / step, "feature": 0.5})
    return str(job.settings.get("version", "M7"))


def deaf(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    """Never asks whether it should stop, and has a child process."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    reporter.message(f"child {child.pid}")
    time.sleep(60)


def user_mistake(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    raise InputError("Task kidney has no training cases; accept some first.")


def bug(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    raise ZeroDivisionError("division by zero\nsecond line")


def missing_package(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    import no_such_package  # noqa: F401


def imports(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    """Tells which heavy libraries the worker has loaded by itself."""
    reporter.message(" ".join(sorted({"torch", "SimpleITK", "monai", "numpy"} & set(sys.modules))) or "none")


def manners(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    """Tells how much of the machine the worker takes."""
    reporter.message(f"{os.environ['OMP_NUM_THREADS']} threads, priority {int(psutil.Process().nice())}")


def slow(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    """Goes on for minutes, with losses, and writes into its log."""
    print("counting", file=sys.stderr)
    reporter.plan([("stage A", 10000)])
    reporter.stage("stage A", 10000)
    for step in range(1, 10001):
        time.sleep(0.02)
        reporter.step(step, {"segmentation": 1.0 / step})


def talk(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    """Prints numbered lines as long as it is told to, from two places and by a child; then dies without a word."""
    lines = int(job.settings["lines"])
    reporter.stage("talking", lines)
    for number in range(1, lines + 1):
        print(f"line {number} {'-' * 400}", file=sys.stderr if number % 2 else sys.stdout)
        if number % 1000 == 0:
            time.sleep(0.25)
        reporter.step(number)
    subprocess.run([sys.executable, "-c", "print('a child')"], check=True)
    os.write(2, b"native code\n")
    os.kill(os.getpid(), signal.SIGKILL)


def out_of_memory(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    """What MedSeqFTLib.learning.memory raises in the end."""
    raise JobError("Out of memory, with batches of 1 instead of 2 too. Set a smaller patch_side or batch_size.")


def no_memory(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    """What Python raises where an allocation fails."""
    raise MemoryError


def broken_card(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    """What torch raises where a graphics card fails in the middle of a step."""
    raise RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported elsewhere")
