"""A job on the screen: its progress while one waits, and its end in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from MedSeqFTLib.commands.console import messages, say, warn
from MedSeqFTLib.errors import JobError, visible

if TYPE_CHECKING:
    from MedSeqFTLib.jobs.events import Event
    from MedSeqFTLib.jobs.job import JobFolder


def wait_for(folder: JobFolder, offset: int = 0, quiet: bool = False) -> None:
    """Show a job's progress on stderr until it ends. Ctrl-C stops the showing, not the job.

    Args:
        folder: the job.
        offset: byte offset of the first event to show.
        quiet: show nothing.

    Raises:
        JobError: the job failed, was cancelled or was interrupted.
        KeyboardInterrupt: the user pressed Ctrl-C; the job goes on.
    """
    from MedSeqFTLib.jobs import control

    try:
        with Screen(quiet) as screen:
            for event in control.watch(folder, offset):
                screen.show(event)
    except KeyboardInterrupt:
        warn(
            f"The job goes on in the background. Watch it: medseqft jobs watch {folder.id}. "
            f"Stop it: medseqft jobs cancel {folder.id}."
        )
        raise
    refuse_bad_end(folder)


def refuse_bad_end(folder: JobFolder) -> None:
    """Raise JobError unless the job is finished: why it is not, and what to do."""
    state = folder.state()
    if state == "finished":
        return
    again = f"go on with: medseqft jobs resume {folder.id}"
    if state == "failed":
        raise JobError(f"Job {folder.id} failed: {folder.progress().text} (after mending it, {again})")
    raise JobError(f"Job {folder.id} was {state}; {again}")


class Screen:
    """A progress bar on a terminal; elsewhere a line for each stage. Messages and warnings appear above the bar."""

    def __init__(self, quiet: bool = False) -> None:
        from MedSeqFTLib.jobs.events import Progress as JobProgress

        self._quiet = quiet
        self._job = JobProgress()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[notes]}"),
            console=messages,
            disable=quiet or not messages.is_terminal,
            transient=True,
        )
        self._line = self._bar.add_task("starting", total=None, notes="")

    def __enter__(self) -> Screen:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, event: Event) -> None:
        """Take in the job's next event."""
        self._job.follow(event)
        if self._quiet:
            return
        if event.kind == "warning":
            warn(event.text or "")
        elif event.kind == "message" and event.text:
            messages.print(Text(visible(event.text)), soft_wrap=True)
        elif event.kind == "started" and self._job.starts > 1:
            messages.print(Text("Resumed."), soft_wrap=True)
        elif event.kind == "stage":
            self._begin_stage(event)
        self._bar.update(self._line, completed=self._job.step or 0, notes=self._notes())

    def _begin_stage(self, event: Event) -> None:
        if not messages.is_terminal:
            messages.print(Text(visible(f"{event.stage}: {event.total} steps")), soft_wrap=True)
        self._bar.reset(self._line, total=event.total, description=event.stage or "")

    def _notes(self) -> str:
        notes = [
            f"loss {self._job.loss:.3f}" if self._job.loss is not None else "",
            f"{duration(self._job.seconds_left)} left" if self._job.seconds_left is not None else "",
            self._job.device or "",
        ]
        return ", ".join(filter(None, notes))


def duration(seconds: float) -> str:
    """A time span as people say it: 40 s, 12 min, 3 h 05 min."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def job_document(folder: JobFolder) -> dict[str, Any]:
    """Everything about a job for --json."""
    progress = folder.progress()
    return {
        **folder.job.model_dump(mode="json"),
        "state": folder.state(),
        "folder": str(folder.path),
        "stage": progress.stage,
        "step": progress.step,
        "total": progress.total,
        "loss": progress.loss,
        "losses": progress.losses,
        "seconds_left": progress.seconds_left,
        "device": progress.device,
        "version": progress.version,
        "text": progress.text,
        "warnings": progress.warnings,
        "starts": progress.starts,
    }


def say_started(folder: JobFolder) -> None:
    """Tell that a job runs and how to look after it."""
    say(f"Job {folder.id} runs in the background. Watch it: medseqft jobs watch {folder.id}")
