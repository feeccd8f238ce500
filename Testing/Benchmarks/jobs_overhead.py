"""What jobs cost: a reporter's step, a look at a running job, and the start of a worker.

Run: python Testing/Benchmarks/jobs_overhead.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.events import Event, EventWriter, last_event, read_events
from MedSeqFTLib.jobs.job import Job
from MedSeqFTLib.jobs.reporter import Reporter
from MedSeqFTLib.workspace.workspace import Workspace

STEPS = 200_000


def nothing(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    """A runner that is done at once."""


def microseconds(action: Callable[[], object], times: int) -> float:
    """Mean duration of one of `times` calls."""
    began = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - began) / times * 1e6


def steps(folder: Path) -> float:
    with EventWriter(folder / "events.jsonl") as events:
        reporter = Reporter(folder, events, folder / "cancel")
        reporter.plan([("score", 1000), ("adapt", STEPS)])
        reporter.stage("adapt", STEPS)
        counter = iter(range(1, STEPS + 1))
        losses = {"dice": 0.5, "feature": 0.25}
        return microseconds(lambda: reporter.step(next(counter), losses), STEPS)


def written_events(folder: Path) -> float:
    losses = {"dice": 0.5, "feature": 0.25}
    with EventWriter(folder / "many.jsonl") as events:
        return microseconds(
            lambda: events.append(
                Event(kind="progress", stage="adapt", step=7, total=STEPS, loss=0.75, losses=losses, seconds_left=90.0)
            ),
            20_000,
        )


def worker_start(folder: Path) -> float:
    """Until the worker's first event has been seen."""
    workspace = Workspace.create(folder / "workspace")
    job = control.new_job(workspace, "pretrain")
    took = microseconds(lambda: control.start_job(workspace, job, runner="Testing.Benchmarks.jobs_overhead:nothing"), 1)
    list(control.watch(control.job(workspace, job.id)))
    return took


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"Reporter.step, throttled       {steps(folder):10.2f} us (mean of {STEPS} calls, written ones included)")
        print(f"EventWriter.append             {written_events(folder):10.2f} us")
        many = folder / "many.jsonl"
        size = many.stat().st_size
        print(f"last_event of {size / 1e6:.1f} MB           {microseconds(lambda: last_event(many), 200):10.2f} us")
        print(f"read_events, nothing new       {microseconds(lambda: read_events(many, size), 2000):10.2f} us")
        print(f"read_events of {size / 1e6:.1f} MB          {microseconds(lambda: read_events(many), 2):10.0f} us")
        print(f"start_job until the first event{worker_start(folder):10.0f} us")


if __name__ == "__main__":
    main()
