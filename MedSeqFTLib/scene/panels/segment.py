"""Segmenting a volume of the scene with the task's current model, in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.scene.panels.background import Background
from MedSeqFTLib.scene.panels.job_watch import JobWatch, JobWidgets
from MedSeqFTLib.scene.panels.panel import Panel
from MedSeqFTLib.scene.panels.session import Session

if TYPE_CHECKING:
    from MedSeqFTLib.jobs.following import Following
    from MedSeqFTLib.scene.logic import SceneLogic
    from MedSeqFTLib.scene.proposals import SegmentingJob, StoredProposal

DEVICES = ("auto", "cpu")  # in the order of the box


class SegmentPanel(Panel):
    """One volume at a time. The result is a new segmentation node; what was drawn before stays as it is."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        super().__init__(ui, session, ui.segmentCollapsibleButton, ui.segmentStateLabel)
        widgets = JobWidgets(ui.segmentButton, ui.segmentProgressBar, ui.segmentProgressLabel, ui.segmentResumeButton)
        self._watch = JobWatch(widgets, self._start, self._resume, self._finished, self._looked)
        self._background = Background()  # reads the result
        self._logic: SceneLogic | None = None
        self._news = ""
        self._news_of = ""  # id of the volume that was chosen then

    def state(self) -> str:
        if self._volume_id() != self._news_of:
            self._tell("")
        return self._news or self._why_not() or self._ready()

    def follow(self) -> None:
        if self.session.logic is not self._logic:
            self._logic = self.session.logic
            self._find_running()

    def show(self) -> None:
        reading = _("The result is just being read.") if self._background.is_active else ""
        self._watch.offer(
            reading or self._why_not(), _("Segment the volume with the task's model; you can go on working.")
        )

    def close(self) -> None:
        self._watch.close()
        self._background.close()

    def _tell(self, news: str) -> None:
        """To be shown until another volume is chosen."""
        self._news, self._news_of = news, self._volume_id()
        self._state.text = news

    def _volume_id(self) -> str:
        volume = self.session.parameters.volume
        return str(volume.GetID()) if volume is not None else ""

    def _ready(self) -> str:
        logic, task = self._open_logic(), self.session.task
        current = logic.current(task)
        name = current.id if current else ""
        if earlier := self._earlier(logic, task, name):
            return _("{version} has segmented this volume before, with a confidence of {confidence}.").format(
                version=name, confidence=earlier
            )
        return _("Ready: {version} is the current model of {task}.").format(version=name, task=task)

    def _earlier(self, logic: SceneLogic, task: str, version: str) -> str:
        from MedSeqFTLib.scene.marks import PIXELS
        from MedSeqFTLib.workspace.segmentations import segmentations

        pixels = self.session.parameters.volume.GetAttribute(PIXELS)
        records = [r for r in segmentations(logic.workspace, task) if (r.pixel_sha256, r.version) == (pixels, version)]
        return percent(records[-1].confidence) if records and records[-1].reading == self._reading else ""

    def _why_not(self) -> str:
        """Why the volume cannot be segmented, and what to do; "" if it can."""
        from MedSeqFTLib.learning.preflight import version_for
        from MedSeqFTLib.scene.volumes import volume_grid

        logic, task = self._open_logic(), self.session.task
        try:
            volume_grid(self.session.parameters.volume)
            if logic.current(task) is None:
                return _("Task {task} has no model yet: draw and accept cases below, then adapt.").format(task=task)
            version_for(logic.workspace, task, None, self._reading)
        except MedSeqFTError as error:
            return str(error)
        return ""

    @property
    def _reading(self) -> Any:
        return "single-model" if self.session.parameters.singleModel else "per-task"

    def _open_logic(self) -> SceneLogic:
        assert self.session.logic is not None  # without a workspace there is an obstacle
        return self.session.logic

    def _start(self) -> SegmentingJob:
        volume = self.session.parameters.volume
        device = DEVICES[self.ui.segmentDeviceComboBox.currentIndex]
        job = self._open_logic().segment(self.session.task, volume, reading=self._reading, device=device)
        self._tell(_("{volume} is being segmented; you can go on working.").format(volume=volume.GetName()))
        return job

    def _resume(self, job: Following) -> Following:
        self._open_logic().resume(job.folder.id)
        return job

    def _find_running(self) -> None:
        """Goes on following what was begun before Slicer, or this window, was closed."""
        running = self._open_logic().segmenting() if not self._watch.is_active else []
        if running:
            self._tell(_("A segmentation that was begun before is going on."))
            self._watch.follow(running[-1])

    def _looked(self, job: Following, _events: object) -> None:
        if job.is_active and job.progress.warnings:
            self._tell(job.progress.warnings[-1])
        if not job.is_active and job.state != "finished":
            self._tell("")
            self.refresh()

    def _finished(self, job: Following) -> None:
        from MedSeqFTLib.scene.proposals import SegmentingJob

        assert isinstance(job, SegmentingJob)
        self._background.run(lambda: _read(job), lambda found: self._place(job, found))
        self.refresh()

    def _place(self, job: SegmentingJob, found: StoredProposal | MedSeqFTError) -> None:
        try:
            if isinstance(found, MedSeqFTError):
                raise found
            node = job.load(found)
        except MedSeqFTError as error:  # the scene was closed, or the volume moved: nothing is lost
            self._tell(str(error))
        else:
            self._tell(self._told(job, node))
        self.session.changed()

    def _told(self, job: SegmentingJob, node: Any) -> str:
        from MedSeqFTLib.scene.marks import is_edited, volume_of

        parameters = self.session.parameters
        busy = parameters.segmentation is not None and is_edited(parameters.segmentation)
        if parameters.volume is volume_of(node) and not busy:
            parameters.segmentation = node
            text = _("{name} is in the scene, with a confidence of {confidence}: correct it below.")
        else:
            text = _("{name} is in the scene, with a confidence of {confidence}: choose it below when you are ready.")
        return text.format(name=node.GetName(), confidence=percent(job.record.confidence))


def _read(job: SegmentingJob) -> StoredProposal | MedSeqFTError:
    try:
        return job.read()
    except MedSeqFTError as error:
        return error


def percent(share: float | None) -> str:
    """For people."""
    return _("unknown") if share is None else _("{percent}\u00a0%").format(percent=round(100 * share))
