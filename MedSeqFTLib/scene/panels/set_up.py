"""Which workspace is open, and what this computer and Slicer's Python offer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

import MedSeqFTLib.scene.panels.packages as packages
from MedSeqFTLib.scene.panels.computer import device_text, memory_text, program_text, torch_text
from MedSeqFTLib.scene.panels.gpu_probe import GpuProbe
from MedSeqFTLib.scene.panels.installing import Installing
from MedSeqFTLib.scene.panels.opening import SETTING, Opening
from MedSeqFTLib.scene.panels.panel import Panel, on
from MedSeqFTLib.scene.panels.plain import plain
from MedSeqFTLib.scene.panels.session import Session


class SetUpPanel(Panel):
    """Can always be used. Looks without importing anything heavy."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets; what takes time is done as soon as the window is there."""
        super().__init__(ui, session, ui.setUpCollapsibleButton, ui.packagesLabel)
        packages.look_again()
        self._shown: Path | None = None
        self._opening = Opening(session)
        self._gpus = GpuProbe(self._gpus_told)
        self._installing = Installing(ui, session.changed, self._opening.reopen)
        on(ui.workspaceLineEdit.returnPressed, lambda: self._open(str(ui.workspaceLineEdit.text)))
        on(ui.openWorkspaceButton.clicked, self._choose)
        on(ui.newWorkspaceButton.clicked, self._make)
        on(ui.refreshButton.clicked, self._look_again)
        on(ui.copyButton.clicked, self._copy)
        ui.deviceLabel.text = _("Asking the driver...")
        self._soon = qt.QTimer()
        self._soon.setSingleShot(True)
        on(self._soon.timeout, self._begin)
        self._soon.start(0)

    def obstacle(self) -> str:
        return ""

    def state(self) -> str:
        missing = packages.missing_packages()
        return " ".join(filter(None, (_found(missing), _next_step(missing, self._installing.wording))))

    def show(self) -> None:
        ui, logic = self.ui, self.session.logic
        missing = packages.missing_packages()
        opening = _("A workspace is just being opened.") if self._opening.is_active else ""
        why_not = _("Install the missing packages first.") if missing else opening
        ui.programLabel.text = program_text()
        ui.torchLabel.text = torch_text()
        ui.memoryLabel.text = memory_text(logic.workspace.folder if logic else Path.home())
        if logic is not None and self._shown != logic.workspace.folder:  # or else what is being typed would go
            self._shown = logic.workspace.folder
            ui.workspaceLineEdit.text = str(self._shown)
        ui.workspaceLabel.text = self._workspace_text()
        ui.systemGroupBox.title = (
            _("System: {count} packages are missing").format(count=len(missing))
            if missing
            else _("System: all packages are there")
        )
        for widget, tip in (
            (ui.workspaceLineEdit, _("The folder that keeps tasks, cases, model versions and jobs; Enter opens it.")),
            (ui.openWorkspaceButton, _("Choose a folder that is a workspace.")),
            (ui.newWorkspaceButton, _("Choose a new or empty folder for a new workspace.")),
            (
                ui.anonymousCheckBox,
                _(
                    "A new workspace gives random names to cases, and keeps none of files, volumes and patients. "
                    "That never changes later."
                ),
            ),
        ):
            widget.enabled = not why_not
            widget.toolTip = plain(why_not or tip)
        self._installing.offer()

    def close(self) -> None:
        self._soon.stop()
        self._gpus.close()
        self._installing.close()
        self._opening.close()

    def _begin(self) -> None:
        """What the window does not wait for."""
        self.ui.systemGroupBox.collapsed = not self._installing.is_unfinished
        self._gpus.ask()
        self._opening.reopen()
        self._installing.go_on()

    # the workspace

    def _open(self, folder: str, create: bool = False) -> None:
        if folder.strip():
            anonymous = create and bool(self.ui.anonymousCheckBox.checked)
            self._opening.open(Path(folder.strip()).expanduser().absolute(), create, anonymous)

    def _choose(self) -> None:
        self._open(str(qt.QFileDialog.getExistingDirectory(None, _("Open a workspace"), self._near())))

    def _make(self) -> None:
        title = _("Choose or make an empty folder for the new workspace")
        self._open(str(qt.QFileDialog.getExistingDirectory(None, title, self._near())), create=True)

    def _near(self) -> str:
        """Where to begin to choose: beside the present workspace, or that of last time."""
        remembered = str(qt.QSettings().value(SETTING) or "")
        near = Path(remembered).parent if remembered else Path.home()
        return str(near if near.is_dir() else Path.home())

    def _workspace_text(self) -> str:
        logic = self.session.logic
        if self._opening.is_active:
            return _("Opening...")
        if logic is None:
            return self._opening.trouble or self._why_none()
        if not (logic.workspace.folder / "workspace.json").is_file():
            return _(
                "The folder is gone, or its disk is. Connect the disk, or press Open and choose the folder where it "
                "is now."
            )
        counts = _counted(logic.workspace.folder)
        told = _("Tasks: {tasks}, cases: {cases}, model versions: {versions}.").format(**counts)
        anonymous = _("Anonymous: names are random.") if logic.workspace.info.anonymous else ""
        return " ".join(filter(None, (told, anonymous, self._opening.caution)))

    def _why_none(self) -> str:
        if packages.missing_packages():
            return _("None is open: install the missing packages first.")
        return _("None is open. Open one, or make a new one in an empty folder.")

    # the System lines

    def _look_again(self) -> None:
        packages.look_again()
        self._gpus.ask()
        self.session.changed()

    def _gpus_told(self) -> None:
        self.ui.deviceLabel.text = device_text(self._gpus.gpus)

    def _copy(self) -> None:
        ui = self.ui
        rows = (
            (ui.versionCaption, ui.versionLabel),
            (ui.programCaption, ui.programLabel),
            (ui.torchCaption, ui.torchLabel),
            (ui.deviceCaption, ui.deviceLabel),
            (ui.memoryCaption, ui.memoryLabel),
            (ui.packagesCaption, ui.packagesLabel),
        )
        slicer.app.clipboard().setText("\n".join(f"{caption.text} {value.text}" for caption, value in rows))


def _counted(workspace: Path) -> dict[str, int]:
    """By the names of files and folders alone: every change of a parameter comes here, and cases may be thousands."""
    from MedSeqFTLib.workspace.files import folder_names

    cases = workspace / "cases"
    return {
        "tasks": len(list(workspace.glob("tasks/*.json"))),
        "cases": sum(len(folder_names(cases / task)) for task in folder_names(cases)),
        "versions": len(list(workspace.glob("models/M*/version.json"))),
    }


def _found(missing: list[str]) -> str:
    count = len(packages.NEEDED)
    if not missing:
        return _("All {count} found.").format(count=count)
    return _("{count} of {all} missing: {names}.").format(count=len(missing), all=count, names=", ".join(missing))


def _next_step(missing: list[str], button: str) -> str:
    if missing:
        return _("Press {button}.").format(button=button)
    others = packages.replaceable()
    if others:
        return _("Press {button} to replace what MedSeqFT is not tested with: {names}.").format(
            button=button, names="; ".join(others)
        )
    own = packages.unfit()
    if own:
        return _("Slicer's own, which stay, though MedSeqFT is tested with others: {names}.").format(
            names="; ".join(own)
        )
    return ""
