"""Following a job from a window or a script; after a restart, too, for everything is read from its folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from MedSeqFTLib.errors import JobError, WorkspaceError
from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.events import Event, Progress
from MedSeqFTLib.jobs.job import ACTIVE, JobFolder, JobState
from MedSeqFTLib.workspace.files import read_json
from MedSeqFTLib.workspace.schema import Document

D = TypeVar("D", bound=Document)
GRACE = 10.0  # seconds between the wish to cancel and the end of the process


class Following:
    """A job and what is known of it. Call `poll` from a timer; it reads what is new, in about a millisecond."""

    def __init__(self, folder: JobFolder) -> None:
        """Read the job as it stands. Raises WorkspaceError if its folder is damaged."""
        self.folder = folder
        self.progress = Progress()
        self.state: JobState = "queued"
        self._offset = 0
        self._kill_at: float | None = None
        self.poll()

    @property
    def is_active(self) -> bool:
        """True while a worker is at work or about to begin, as of the last poll."""
        return self.state in ACTIVE

    def poll(self) -> list[Event]:
        """The events since the last call, the first time thinned; `progress` and `state` are brought up to date.

        Raises:
            WorkspaceError: the job's folder is gone, or cannot be read.
            JobError: it should be killed, as it did not react to `cancel`, and cannot be.
        """
        if not self.folder.path.is_dir():
            raise WorkspaceError(
                f"{self.folder.path} is gone: the workspace was moved or deleted, or its disk was taken off. Open the "
                "workspace where it is now; a job that stopped can be resumed there."
            )
        self.state = self.folder.state()  # asked first, so that no last event is missed
        if not self.is_active:
            self._kill_at = None  # should it be resumed, that is another life
        if self._kill_at is not None and self.is_active and time.monotonic() > self._kill_at:
            self._kill_at = None
            self.state = control.kill(self.folder)
        if self._offset == 0:  # after a restart there may be the events of days
            events, self._offset = self.folder.thinned_events()
        else:
            events, self._offset = self.folder.events(self._offset)
        for event in events:
            self.progress.follow(event)
        return events

    def cancel(self, grace_seconds: float = GRACE) -> None:
        """Ask the job to stop and return at once; a `poll` after the grace period kills it.

        Raises JobError if it is not running.
        """
        control.request_cancel(self.folder)
        self._kill_at = time.monotonic() + grace_seconds

    def wait(
        self, timeout: float | None = None, idle: Callable[[], object] = lambda: None, interval: float = 0.1
    ) -> JobState:
        """Poll until the job ends, or for `timeout` seconds. Returns the state then.

        Args:
            idle: called between polls; in Slicer `slicer.app.processEvents` keeps the window alive.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_active and (deadline is None or time.monotonic() < deadline):
            time.sleep(interval)
            idle()
            self.poll()
        return self.state

    def require_finished(self) -> None:
        """Raise JobError unless the job is finished: what happened to it, and what to do."""
        if self.state == "finished":
            return
        if self.is_active:
            raise JobError(f"Job {self.folder.id} is still {self.state}; wait for it.")
        if self.state == "failed":
            raise JobError(f"Job {self.folder.id} failed: {self.progress.text} After mending it, resume the job.")
        raise JobError(f"Job {self.folder.id} was {self.state}; resume it to go on from where it stopped.")

    def result(self, kind: type[D]) -> D:
        """The record that an errand stored. Raises JobError unless it is finished."""
        self.require_finished()
        return read_json(self.folder.result_path, kind)
