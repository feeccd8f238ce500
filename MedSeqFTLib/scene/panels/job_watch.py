"""A button that starts a job in the background and becomes Cancel, with progress, remaining time, and Resume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import qt
from slicer.i18n import tr as _

from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.scene.panels.background import Background
from MedSeqFTLib.scene.panels.panel import guarded, on, say
from MedSeqFTLib.scene.panels.plain import plain

if TYPE_CHECKING:
    from MedSeqFTLib.jobs.events import Event
    from MedSeqFTLib.jobs.following import Following

#: A job that has begun, or what begins it.
Beginning: TypeAlias = "Following | Callable[[], Following]"
INTERVAL = 250  # milliseconds between two looks; a look takes about one
LOG_LINES = 6  # of a worker that died
LOG_NAME = "worker.log"  # an error that points to it is a bug, or a package that is missing


class JobWidgets(NamedTuple):
    """What a panel has for a job."""

    button: Any  # starts it; reads Cancel meanwhile
    bar: Any
    label: Any  # what it does, or what went wrong
    resume: Any  # only seen where there is something to resume


class JobWatch:
    """Follows one job at a time from a timer. The job itself needs neither this nor Slicer."""

    def __init__(
        self,
        widgets: JobWidgets,
        start: Callable[[], Beginning | None],
        resume: Callable[[Following], Beginning],
        finished: Callable[[Following], None],
        progressed: Callable[[Following, Sequence[Event]], None] = lambda _job, _events: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Connect the widgets.

        Args:
            start: begins the job when the button is clicked; None if the user thought better of it. What it does may
                be left to a function that it returns, which waits for the disk on a thread: it must touch neither the
                scene nor a widget.
            resume: goes on with the job that stopped; likewise.
            finished: is called once when the job has finished well.
            progressed: is called after each look, with what is new.
            changed: is called when a job has begun, and when it no longer runs, whatever has become of it.
        """
        self._widgets, self._caption = widgets, str(widgets.button.text)
        self._start, self._resume, self._finished, self._progressed = start, resume, finished, progressed
        self._changed = changed
        self._obstacle = ""
        self.job: Following | None = None
        self._background = Background()
        self._timer = qt.QTimer()
        self._timer.setInterval(INTERVAL)
        on(self._timer.timeout, self._look)
        on(widgets.button.clicked, self._clicked)
        on(widgets.resume.clicked, self._resume_clicked)
        widgets.bar.visible = widgets.resume.visible = False
        say(widgets.label, "")

    @property
    def is_active(self) -> bool:
        """True while a job is followed that has not ended."""
        return self.job is not None and self.job.is_active

    def offer(self, obstacle: str = "", tip: str = "") -> None:
        """Enable the button, unless there is an obstacle, which becomes its tooltip. Cancel is always possible."""
        self._obstacle = obstacle
        button = self._widgets.button
        button.enabled = (self.is_active or not obstacle) and not self._background.is_active
        button.toolTip = _("Stop; what is done so far is kept.") if self.is_active else plain(obstacle) or tip

    def follow(self, job: Following) -> None:
        """Show a job: one that was just started, or one that was found running after a restart."""
        self.job = job
        self._widgets.button.text = _("Cancel")
        self._widgets.resume.visible = False
        self._widgets.resume.enabled = True
        self._widgets.bar.visible = True
        self.offer(self._obstacle)
        self._timer.start()
        self._changed()
        self._look()

    def forget(self) -> None:
        """Follow nothing; the job goes on."""
        self.close()
        self.job = None
        self._widgets.button.text = self._caption
        say(self._widgets.label, "")
        self._widgets.bar.visible = self._widgets.resume.visible = False

    def close(self) -> None:
        """Stop looking; the job goes on."""
        self._timer.stop()
        self._background.close()

    def _clicked(self) -> None:
        if self.job is not None and self.job.is_active:
            self._widgets.button.enabled = False
            say(self._widgets.label, _("Cancelling..."))
            self.job.cancel()
        elif (beginning := self._start()) is not None:
            self._begin(beginning)

    def _resume_clicked(self) -> None:
        if self.job is not None:
            self._begin(self._resume(self.job))

    def _begin(self, beginning: Beginning) -> None:
        if not callable(beginning):
            self.follow(beginning)
            return
        self._background.run(beginning, self.follow, self._not_begun)
        self._widgets.button.enabled = self._widgets.resume.enabled = False
        say(self._widgets.label, _("Starting..."))

    def _not_begun(self) -> None:
        self._widgets.resume.enabled = True
        say(self._widgets.label, "")
        self.offer(self._obstacle)

    def _look(self) -> None:
        job = self.job
        if job is None:
            return
        try:
            events = job.poll()
        except MedSeqFTError:
            self.forget()
            raise
        self._progressed(job, events)
        if job.is_active:
            self._show_progress(job)
        elif job is self.job:
            self._end(job)

    def _show_progress(self, job: Following) -> None:
        bar, progress = self._widgets.bar, job.progress
        bar.maximum = progress.total or 0  # 0: something is being done, it is not known how much
        bar.value = progress.step or 0
        if self._widgets.button.enabled:
            say(self._widgets.label, told(job))

    def _end(self, job: Following) -> None:
        self._timer.stop()
        self._widgets.button.text = self._caption
        self._widgets.bar.visible = False
        self._widgets.resume.visible = job.state != "finished"
        self.offer(self._obstacle)
        say(self._widgets.label, "" if job.state == "finished" else what_stopped(job))
        if job.state == "finished":
            guarded(lambda: self._finished(job))
        self._changed()


def told(job: Following) -> str:
    """What a running job does, in one line."""
    progress = job.progress
    if progress.stage is None:
        return progress.text or _("Starting...")
    parts = [progress.stage]
    if progress.total:
        parts.append(_("step {step} of {total}").format(step=progress.step or 0, total=progress.total))
    if progress.seconds_left is not None:
        parts.append(_("{time} left").format(time=duration(progress.seconds_left)))
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """For people: "40 s", "12 min", "3 h 5 min"."""
    if seconds < 100:
        return _("{seconds} s").format(seconds=round(seconds))
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return _("{hours} h {minutes} min").format(hours=hours, minutes=minutes)
    return _("{minutes} min").format(minutes=minutes)


def what_stopped(job: Following) -> str:
    """Why a job ended before its time, the worker's last lines if it died, and what can be done."""
    if job.state == "cancelled":
        return _("Cancelled. Resume goes on from where it stopped.")
    why = job.progress.text if job.state == "failed" else _("The worker died without a word. Its last lines:")
    lines = [why or _("The job failed.")]
    if job.state != "failed" or LOG_NAME in lines[0]:
        lines += job.folder.log_tail(LOG_LINES).splitlines() or [_("(none)")]
    return "\n".join([*lines, _("Resume goes on from where it stopped.")])
