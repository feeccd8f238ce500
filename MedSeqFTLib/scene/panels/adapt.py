"""Adapting the model to the accepted cases, in the background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MedSeqFTLib.scene.panels.gpu_probe import GpuProbe
from MedSeqFTLib.scene.panels.job_watch import Beginning, JobWatch, JobWidgets, duration
from MedSeqFTLib.scene.panels.live_plot import DICE, LOSS, LivePlot
from MedSeqFTLib.scene.panels.outcome import fill_outcome, fill_picks
from MedSeqFTLib.scene.panels.panel import Panel, on
from MedSeqFTLib.scene.panels.preflight import as_html, obstacle, preflight
from MedSeqFTLib.scene.panels.session import Session

if TYPE_CHECKING:
    from MedSeqFTLib.jobs.estimate import Estimate
    from MedSeqFTLib.jobs.events import Event
    from MedSeqFTLib.jobs.following import Following
    from MedSeqFTLib.learning.promotion import Verdict
    from MedSeqFTLib.scene.logic import SceneLogic
    from MedSeqFTLib.workspace.policy import Promotion
    from MedSeqFTLib.workspace.schema import ModelVersion

_USUAL = "balanced"
_PLOTS = ("", LOSS, DICE)  # as in the .ui


class AdaptPanel(Panel):
    """A list of what is needed, a button that becomes Cancel, and what came of it."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        super().__init__(ui, session, ui.adaptCollapsibleButton, ui.adaptStateLabel)
        widgets = JobWidgets(ui.adaptButton, ui.adaptProgressBar, ui.adaptProgressLabel, ui.adaptResumeButton)
        self._watch = JobWatch(widgets, self._start, self._resume, self._finished, self._progressed, self.refresh)
        self._plot = LivePlot()
        self._attached: SceneLogic | None = None
        self._plotted = ""  # the job whose losses are plotted
        self._shown: tuple[object, ...] = ()  # what the outcome is of
        self._gpus = GpuProbe(self.refresh)
        self._asked = False  # the driver, for the GPUs
        self._tip = str(ui.adaptPresetComboBox.toolTip)
        on(ui.adaptPresetComboBox.currentIndexChanged, self.refresh)
        on(ui.adaptPlotComboBox.currentIndexChanged, self._choose_plot)
        on(ui.adaptCheckButton.clicked, self._look_again)

    def refresh(self) -> None:
        """Look again; a workspace that was just opened may have a job to go on with."""
        self._attach()
        super().refresh()

    def obstacle(self) -> str:
        """A job can be cancelled whatever task is chosen."""
        return "" if self._watch.job is not None else self.session.why_no_task()

    def state(self) -> str:
        job = self._watch.job
        if job is not None and job.is_active:
            return _told(job)
        return self.session.why_no_task() or _("The model learns the accepted cases of {task}.").format(
            task=self.session.task
        )

    def show(self) -> None:
        self._show_preparation()
        self._show_outcome()

    def close(self) -> None:
        self._watch.close()
        self._plot.close()
        self._gpus.close()

    # before

    def _show_preparation(self) -> None:
        """The list and the estimate, which nobody needs while a job runs."""
        task, running = self.session.task, self._watch.is_active
        wanted = bool(task) and not running
        for widget in (self.ui.adaptPreflightLabel, self.ui.adaptPreflightCaption, self.ui.adaptCheckButton):
            widget.visible = wanted
        for widget in (self.ui.adaptEstimateLabel, self.ui.adaptEstimateCaption):
            widget.visible = wanted
        self.ui.adaptPresetComboBox.enabled = not running
        self.ui.adaptPresetComboBox.toolTip = _("It cannot be changed while a job runs.") if running else self._tip
        if not wanted:
            self._watch.offer(self.session.why_no_task())
        else:
            self._look(task)

    def _look(self, task: str) -> None:
        logic, preset = self._logic(), self._preset()
        if not self._asked:
            self._asked = True
            self._gpus.ask()
        checks = preflight(logic.workspace, task, preset, self._gpus)
        self.ui.adaptPreflightLabel.text = as_html(checks)
        self.ui.adaptEstimateLabel.text = _forecast(logic.estimate(task, preset))
        self._watch.offer(obstacle(checks), _("Learn the accepted cases of {task}.").format(task=task))

    def _look_again(self) -> None:
        """At what may have changed outside of this window; a job that another Slicer started is followed."""
        self._asked = False
        if not self._watch.is_active:
            self._attached = None
        self.session.changed()

    # while it runs

    def _attach(self) -> None:
        """Plot the newest adaptation of a workspace that was just opened; follow it if it runs or can be resumed."""
        if self.session.logic is self._attached:
            return
        self._attached = self.session.logic
        self._watch.forget()
        job = self.session.logic.latest("adapt") if self.session.logic is not None else None
        if job is None:
            self._plot.begin(_("Losses"))
            return
        self._begin_plot(job)
        self._plot.take_in(job.folder.thinned_events()[0])
        if job.state != "finished":
            self._watch.follow(job)
            self.ui.adaptCollapsibleButton.collapsed = False

    def _start(self) -> Beginning:
        logic, task, preset = self._logic(), self.session.task, self._preset()
        return lambda: logic.adapt(task, preset)

    def _begin_plot(self, job: Following) -> None:
        self._plot.begin(_("Adaptation to {task}").format(task=job.folder.job.task))
        self._plotted = job.folder.id
        self._shown = ()  # the Dice of before are plotted until there are new ones

    def _resume(self, job: Following) -> Beginning:
        logic = self._logic()
        return lambda: logic.resume(job.folder.id)

    def _progressed(self, job: Following, events: Sequence[Event]) -> None:
        if job.folder.id != self._plotted:
            self._begin_plot(job)
        self._plot.take_in(events)
        if any(event.kind == "warning" or event.device for event in events):
            self.ui.adaptStateLabel.text = self.state()

    def _finished(self, _job: Following) -> None:
        self.session.changed()

    def _choose_plot(self) -> None:
        self._plot.show(_PLOTS[max(0, self.ui.adaptPlotComboBox.currentIndex)])

    # after

    def _show_outcome(self) -> None:
        version = self._logic().newest(self.session.task) if self.session.task else None
        self.ui.adaptOutcomeGroupBox.visible = version is not None
        if version is None:
            self._shown = ()
            return
        current = self._logic().current(self.session.task)
        key = (self._logic(), version.id, current.id if current else None, self._logic().policy)
        if key != self._shown:
            self._shown = key
            self._fill(version, current is not None and current.id == version.id)

    def _fill(self, version: ModelVersion, is_current: bool) -> None:
        logic = self._logic()
        rows = logic.outcome(version.id)
        verdict = logic.verdict(version.id)
        self.ui.adaptVerdictLabel.text = _told_verdict(version, is_current, verdict, logic.policy.promotion)
        fill_outcome(self.ui.adaptOutcomeTreeWidget, rows, self.session.task, verdict)
        picks, method = logic.picks(version.id), version.selection.method if version.selection else ""
        fill_picks(self.ui.adaptPicksTreeWidget, picks)
        self.ui.adaptPicksCaption.text = _("Cases kept for later tasks ({method}):").format(method=method.upper())
        self.ui.adaptPicksCaption.visible = self.ui.adaptPicksTreeWidget.visible = bool(picks)
        self._plot.compare(rows)

    def _preset(self) -> str:
        """While a scene is being closed, nothing is chosen."""
        return str(self.ui.adaptPresetComboBox.currentText) or _USUAL

    def _logic(self) -> SceneLogic:
        assert self.session.logic is not None, "only called where a workspace is open"
        return self.session.logic


def _told(job: Following) -> str:
    began, device = f"{job.folder.job.created.astimezone():%H:%M}", job.progress.device
    where = _(" on {device}").format(device=device) if device else ""
    told = _("Adapting to {task} since {time}{where}. You may go on working, or end Slicer.")
    lines = [told.format(task=job.folder.job.task, time=began, where=where)]
    return "\n".join([*lines, *(_("Warning: {text}").format(text=text) for text in job.progress.warnings[-1:])])


def _forecast(found: Estimate) -> str:
    steps = _("{steps} training steps").format(steps=found.steps)
    if found.folds:
        steps = _("{steps}, cross-validation in {folds} folds included").format(steps=steps, folds=found.folds)
    if found.seconds is None:
        told = _("{steps}. The time is unknown until an adaptation was measured in this workspace.")
        return told.format(steps=steps)
    told = _("{steps}, about {time} if nothing else runs (measured: {job}).")
    return told.format(steps=steps, time=duration(found.seconds), job=found.job)


def _told_verdict(version: ModelVersion, is_current: bool, verdict: Verdict, promotion: Promotion) -> str:
    reason = str(verdict)
    if is_current:
        return _("{version} is in use: {reason}").format(version=version.id, reason=reason)
    if promotion == "never":
        told = _("{version} is not in use, as this workspace promotes nothing. {reason}")
    elif verdict.good:
        told = _("{version} is not in use: that is for a person to decide, in Task. {reason}")
    else:
        told = _("{version} is not in use: {reason} Promote it in Task if you think otherwise.")
    return told.format(version=version.id, reason=reason)
