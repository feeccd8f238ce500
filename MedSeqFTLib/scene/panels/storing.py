"""Accepted cases on their way into the workspace: followed while a worker files them, listed if it could not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import qt
import slicer
from slicer.i18n import tr as _

from MedSeqFTLib.scene.panels.job_watch import INTERVAL, what_stopped
from MedSeqFTLib.scene.panels.panel import on
from MedSeqFTLib.scene.panels.plain import plain
from MedSeqFTLib.scene.panels.session import Session

if TYPE_CHECKING:
    from MedSeqFTLib.scene.cases import StoringJob
    from MedSeqFTLib.scene.logic import SceneLogic
    from MedSeqFTLib.workspace.schema import Case


class StoringWidgets(NamedTuple):
    """What the panel has for it."""

    label: Any
    list: Any  # of what could not be stored
    resume: Any
    discard: Any


class Storing:
    """Any number of cases at a time. `changed` is called when one is stored, or could not be."""

    def __init__(self, widgets: StoringWidgets, session: Session, changed: Callable[[], None]) -> None:
        """Connect the widgets."""
        self._widgets, self._session, self._changed = widgets, session, changed
        self._logic: SceneLogic | None = None
        self._active: list[StoringJob] = []
        self._stuck: list[StoringJob] = []
        self._news = ""
        self._timer = qt.QTimer()
        self._timer.setInterval(INTERVAL)
        on(self._timer.timeout, self._look)
        on(widgets.resume.clicked, self._resume)
        on(widgets.discard.clicked, self._discard)
        self._show()

    def look_again(self) -> None:
        """Show what waits in the workspace that is open now."""
        if self._session.logic is not self._logic:
            self._logic = self._session.logic
            waiting = self._logic.waiting() if self._logic else []
            self._active = [job for job in waiting if job.is_active]
            self._stuck = [job for job in waiting if not job.is_active]
            self._news = ""
            if self._active:
                self._timer.start()
        self._show()

    def add(self, job: StoringJob) -> None:
        """A case was accepted."""
        self._active.append(job)
        self._news = ""
        self._timer.start()
        self._show()

    def is_storing(self, volume: Any) -> bool:
        """True while a worker files this volume."""
        return any(job.is_of(volume) for job in self._active)

    def close(self) -> None:
        """Stop looking; the workers go on."""
        self._timer.stop()

    def _look(self) -> None:
        ended = []
        for job in self._active:
            job.poll()
            if not job.is_active:
                ended.append(job)
        for job in ended:
            self._active.remove(job)
            self._news = self._end(job)
        if not self._active:
            self._timer.stop()
        if ended:
            self._show()
            self._changed()

    def _end(self, job: StoringJob) -> str:
        if job.state == "finished":
            case = job.mark()
            return " ".join(filter(None, (_("Case {name} is stored.").format(name=case.id), _remark(case))))
        self._stuck.append(job)
        return _("Case {name} is accepted, but not stored: {why}").format(name=job.name, why=what_stopped(job))

    def _resume(self) -> None:
        job = self._chosen()
        if self._logic is not None and job is not None:
            self._logic.resume(job.folder.id)
            self._stuck.remove(job)
            job.poll()
            self.add(job)
            self._changed()

    def _discard(self) -> None:
        job = self._chosen()
        if job is None:
            return
        question = _("Give up storing {name}? Its segmentation is lost unless it is still in the scene.")
        if slicer.util.confirmOkCancelDisplay(question.format(name=job.name), windowTitle=_("MedSeqFT")):
            job.discard()
            self._stuck.remove(job)
            self._news = ""
            self._show()
            self._changed()

    def _chosen(self) -> StoringJob | None:
        row = self._widgets.list.currentRow
        return self._stuck[row] if 0 <= row < len(self._stuck) else None

    def _show(self) -> None:
        names = ", ".join(job.name for job in self._active)
        busy = _("Being stored in the background: {names}.").format(names=names) if names else ""
        self._widgets.label.text = "\n".join(text for text in (busy, self._news) if text)
        self._widgets.label.visible = bool(busy or self._news)
        for widget in (self._widgets.list, self._widgets.resume, self._widgets.discard):
            widget.visible = bool(self._stuck)
        self._fill()

    def _fill(self) -> None:
        listed, row = self._widgets.list, self._widgets.list.currentRow
        listed.clear()
        for job in self._stuck:
            listed.addItem(_("{name} ({task}): not stored yet").format(name=job.name, task=job.folder.job.task))
            listed.item(listed.count - 1).setToolTip(plain(what_stopped(job)))
        listed.setCurrentRow(min(max(row, 0), len(self._stuck) - 1))


def _remark(case: Case) -> str:
    if case.revisions:
        return _("Its earlier segmentations are kept.")
    if case.near_duplicate is None:
        return ""
    return _("It shows the same scan as {role} case {case} of {task}.").format(
        role=case.near_duplicate.role.value, case=case.near_duplicate.case, task=case.near_duplicate.task
    )
