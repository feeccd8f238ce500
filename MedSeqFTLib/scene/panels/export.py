"""Handing segmentations on as files, and the report of the workspace."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.scene.panels.job_watch import Beginning, JobWatch, JobWidgets
from MedSeqFTLib.scene.panels.panel import Panel, on, say
from MedSeqFTLib.scene.panels.plain import plain
from MedSeqFTLib.scene.panels.session import Session

if TYPE_CHECKING:
    from MedSeqFTLib.jobs.following import Following
    from MedSeqFTLib.scene.logic import SceneLogic

FOLDER_SETTING = "MedSeqFT/exportFolder"
MOST = 200  # names that are listed; others are found by a part of them
_NAMED = 3  # files that are named in a question


class ExportPanel(Panel):
    """A list to choose from, a folder, and two buttons that become Cancel."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        super().__init__(ui, session, ui.exportCollapsibleButton, ui.exportStateLabel)
        widgets = JobWidgets(ui.exportButton, ui.exportProgressBar, ui.exportProgressLabel, ui.exportResumeButton)
        self._exporting = JobWatch(widgets, self._start, self._resume, self._exported, changed=self.refresh)
        widgets = JobWidgets(ui.reportButton, ui.reportProgressBar, ui.reportProgressLabel, ui.reportResumeButton)
        self._reporting = JobWatch(widgets, self._start_report, self._resume, self._reported)
        self._all: list[str] = []  # names
        self._listed: tuple[str, ...] = ()  # the task, and the names in the list
        self._attached: SceneLogic | None = None
        self._tip = str(ui.exportListWidget.toolTip)
        ui.exportDirectoryButton.directory = str(slicer.app.userSettings().value(FOLDER_SETTING) or Path.home())
        on(ui.exportSearchLineEdit.textChanged, self.refresh)
        on(ui.exportListWidget.itemSelectionChanged, self._offer)
        on(ui.exportAllCheckBox.toggled, self._offer)
        on(ui.exportDirectoryButton.directoryChanged, self._folder_chosen)
        on(ui.exportOpenFolderButton.clicked, self._open_folder)

    def _refresh(self) -> None:
        """Jobs of a workspace that was closed are no longer followed."""
        if self.session.logic is not self._attached:
            self._attached = self.session.logic
            self._exporting.forget()
            self._reporting.forget()
        super()._refresh()

    def state(self) -> str:
        if not self._all:
            return self._nothing()
        text, listed = _("{count} to choose from.").format(count=len(self._all)), len(self._listed) - 1
        if listed == len(self._all):
            return text
        return " ".join((text, _("{count} are listed: search for the others.").format(count=listed)))

    def _nothing(self) -> str:
        return "" if self._all else _("Nothing to export yet: accept a case, or segment a volume.")

    def show(self) -> None:
        self._fill()
        self._offer()
        self._reporting.offer("", _("Write report.html into the workspace, and open it in the browser."))

    def close(self) -> None:
        self._exporting.close()
        self._reporting.close()

    def _fill(self) -> None:
        """Those with the text in their name. What is selected stays so, and in the list."""
        task, wanted = self.session.task, str(self.ui.exportSearchLineEdit.text).strip().casefold()
        chosen = set(self._selected()) if self._listed[:1] == (task,) else set()
        self._all = self._logic().exportable(task)
        found = (name for name in self._all if wanted in name.casefold())
        shown = {*islice(found, MOST), *chosen.intersection(self._all)}
        listed = (task, *sorted(shown))
        if listed == self._listed:
            return
        self._listed, widget = listed, self.ui.exportListWidget
        widget.blockSignals(True)
        widget.clear()
        widget.addItems(list(listed[1:]))
        for row, name in enumerate(listed[1:]):
            if name in chosen:
                widget.item(row).setSelected(True)
        widget.blockSignals(False)

    def _offer(self) -> None:
        everything = self.ui.exportAllCheckBox.checked
        self.ui.exportListWidget.enabled = not everything
        self.ui.exportListWidget.toolTip = _("All is checked: everything is exported.") if everything else self._tip
        obstacle = "" if self._names() else self._nothing() or _("Select what to export, or check All.")
        self._exporting.offer(obstacle, _("Write .seg.nrrd, .labels.nrrd and .json files into the folder."))
        there = self._folder().is_dir()
        self.ui.exportOpenFolderButton.enabled = there
        self.ui.exportOpenFolderButton.toolTip = (
            _("Show the folder in the file manager.") if there else _("The folder does not exist yet.")
        )

    def _names(self) -> list[str]:
        if self.ui.exportAllCheckBox.checked:
            return self._all
        return self._selected()

    def _selected(self) -> list[str]:
        return sorted(str(item.text()) for item in self.ui.exportListWidget.selectedItems())

    def _folder(self) -> Path:
        return Path(str(self.ui.exportDirectoryButton.directory))

    def _folder_chosen(self) -> None:
        slicer.app.userSettings().setValue(FOLDER_SETTING, str(self._folder()))
        self._offer()

    def _start(self) -> Beginning | None:
        names, folder = self._names(), self._folder()
        present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        existing = [path.name for path in self._logic().files_of(names, folder) if path.name in present]
        if existing and not slicer.util.confirmOkCancelDisplay(plain(_question(existing, folder)), _("Export")):
            return None
        logic, task, overwrite = self._logic(), self.session.task, bool(existing)
        return lambda: logic.export(task, names, folder, overwrite=overwrite)

    def _resume(self, job: Following) -> Beginning:
        logic = self._logic()
        return lambda: logic.resume(job.folder.id)

    def _exported(self, job: Following) -> None:
        told, folder = _("{count} exported to {folder}."), job.folder.job.settings["folder"]
        say(self.ui.exportProgressLabel, told.format(count=job.progress.total, folder=folder))

    def _open_folder(self) -> None:
        _open(self._folder())

    def _start_report(self) -> Beginning:
        return self._logic().report

    def _reported(self, _job: Following) -> None:
        path = self._logic().report_path
        say(self.ui.reportProgressLabel, str(path))
        _open(path)

    def _logic(self) -> SceneLogic:
        assert self.session.logic is not None, "only called where a workspace is open"
        return self.session.logic


def _question(existing: list[str], folder: Path) -> str:
    named = ", ".join(existing[:_NAMED]) + (", ..." if len(existing) > _NAMED else "")
    told = _("{count} files exist already in {folder}: {names}. Overwrite them?")
    return told.format(count=len(existing), folder=folder, names=named)


def _open(path: Path) -> None:
    """With the program that the desktop has for it."""
    if not qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path))):
        raise InputError(_("No program opens {path} here; open it yourself.").format(path=path))
