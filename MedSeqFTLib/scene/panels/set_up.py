"""Which workspace is open, what this computer and Slicer's Python offer, and installing what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

import MedSeqFTLib.scene.panels.packages as packages
from MedSeqFTLib.scene.panels.computer import Device, memory_text, program_text, torch_text
from MedSeqFTLib.scene.panels.install import Installer
from MedSeqFTLib.scene.panels.opening import SETTING, Opening
from MedSeqFTLib.scene.panels.panel import Panel, on, say
from MedSeqFTLib.scene.panels.session import Session

PENDING = "MedSeqFT/installing"
LOG = "MedSeqFT-install.log"


class SetUpPanel(Panel):
    """Can always be used. Looks without importing anything heavy."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets; what takes time is done as soon as the window is there."""
        super().__init__(ui, session, ui.setUpCollapsibleButton, ui.packagesLabel)
        packages.look_again()
        self._opening = Opening(session)
        self._device = Device(self._device_told)
        log = Path(str(qt.QSettings().fileName())).parent / LOG
        self._installer = Installer(log, self._installing, self._installed)
        on(ui.workspaceLineEdit.returnPressed, lambda: self._open(str(ui.workspaceLineEdit.text)))
        on(ui.openWorkspaceButton.clicked, self._choose)
        on(ui.newWorkspaceButton.clicked, self._make)
        on(ui.installButton.clicked, self._install)
        on(ui.refreshButton.clicked, self._look_again)
        on(ui.copyButton.clicked, self._copy)
        ui.installBar.visible = False
        say(ui.installLabel, "")
        ui.deviceLabel.text = _("Asking the driver...")
        self._soon = qt.QTimer()
        self._soon.setSingleShot(True)
        on(self._soon.timeout, self._begin)
        self._soon.start(0)

    def obstacle(self) -> str:
        return ""

    def state(self) -> str:
        missing = packages.missing_packages()
        return " ".join(filter(None, (_found(missing), _next_step(missing))))

    def show(self) -> None:
        ui, logic = self.ui, self.session.logic
        missing = packages.missing_packages()
        lacking = _("Install the missing packages first.") if missing else ""
        ui.programLabel.text = program_text()
        ui.torchLabel.text = torch_text()
        ui.memoryLabel.text = memory_text(logic.workspace.folder if logic else Path.home())
        if logic is not None:
            ui.workspaceLineEdit.text = str(logic.workspace.folder)
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
        ):
            widget.enabled = not missing
            widget.toolTip = lacking or tip
        self._offer(missing)

    def close(self) -> None:
        self._soon.stop()
        self._device.close()
        self._installer.close()
        self._opening.close()

    def _begin(self) -> None:
        """What the window does not wait for."""
        self.ui.systemGroupBox.collapsed = not self._is_unfinished(packages.missing_packages())
        self._device.ask()
        self._opening.reopen()
        if self._is_pending() and not self._installer.is_active:
            self._go_on()

    # the workspace

    def _open(self, folder: str, create: bool = False) -> None:
        if folder.strip():
            self._opening.open(Path(folder.strip()).expanduser().absolute(), create)

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
        if logic is None:
            return self._opening.trouble or _("None is open. Open one, or make a new one in an empty folder.")
        if not (logic.workspace.folder / "workspace.json").is_file():
            return _(
                "The folder is gone, or its disk is. Connect the disk, or press Open and choose the folder where it "
                "is now."
            )
        counts = {
            name: len(list(logic.workspace.folder.glob(pattern)))  # counted, not read: there may be hundreds
            for name, pattern in (
                ("tasks", "tasks/*.json"),
                ("cases", "cases/*/*/case.json"),
                ("versions", "models/M*/version.json"),
            )
        }
        told = _("Tasks: {tasks}, cases: {cases}, model versions: {versions}.").format(**counts)
        return " ".join(filter(None, (told, self._opening.caution)))

    # installing

    def _offer(self, missing: list[str]) -> None:
        button = self.ui.installButton
        button.text = _("Go on installing") if self._is_pending() else _("Install packages...")
        to_do = self._is_unfinished(missing)
        button.enabled = to_do and not self._installer.is_active
        if self._installer.is_active:
            button.toolTip = _("The installation is running.")
        elif to_do:
            button.toolTip = _("Shows first what will be installed, and asks.")
        else:
            button.toolTip = _("All packages are there.")

    def _is_pending(self) -> bool:
        """True if an installation was begun and has not ended well."""
        return bool(qt.QSettings().value(PENDING))

    def _is_unfinished(self, missing: list[str]) -> bool:
        return bool(missing or packages.replaceable() or self._is_pending())

    def _install(self) -> None:
        if self._is_pending() or slicer.util.confirmOkCancelDisplay(_question(), _("Install packages")):
            qt.QSettings().setValue(PENDING, True)
            self._installer.start()

    def _go_on(self) -> None:
        """After a restart: see whether all is well now, or tell what is left to do. Nothing is installed unasked."""
        if packages.missing_packages():
            say(self.ui.installLabel, _("The installation is not complete: press Go on installing."))
        else:
            self._installer.check()

    def _installing(self, text: str) -> None:
        self.ui.installBar.visible = True
        say(self.ui.installLabel, text)
        self._offer(packages.missing_packages())
        slicer.app.processEvents()  # what follows may be a pip that holds the window up

    def _installed(self, why: str) -> None:
        self.ui.installBar.visible = False
        packages.look_again()
        if self._installer.was_refused:
            qt.QSettings().remove(PENDING)
        self.session.changed()
        if self._installer.was_refused:
            say(self.ui.installLabel, why)
        elif why:
            self._complain(why)
        elif self._installer.needs_restart:
            self._ask_for_restart()
        else:
            qt.QSettings().remove(PENDING)
            say(self.ui.installLabel, _("All packages are there, and can be imported."))
            self.refresh()
            self._opening.reopen()

    def _ask_for_restart(self) -> None:
        say(self.ui.installLabel, _("Restart Slicer to finish: packages were replaced that it has loaded."))
        question = _("Slicer has to be restarted to finish the installation. Restart now? Save your work first.")
        if slicer.util.confirmOkCancelDisplay(question, _("Install packages")):
            slicer.util.restart()

    def _complain(self, why: str) -> None:
        last = _("The whole log is in {path}. Press Install again after mending it: what is done stays done.").format(
            path=self._installer.log
        )
        say(self.ui.installLabel, f"{why} {last}")
        text = _("{why}\n\n{last}\n\nLast lines of the log:\n{lines}").format(
            why=why, last=last, lines=self._installer.log_tail()
        )
        slicer.util.errorDisplay(text, windowTitle=_("Install packages"))

    # the System lines

    def _look_again(self) -> None:
        packages.look_again()
        self._device.ask()
        self.session.changed()

    def _device_told(self, text: str) -> None:
        self.ui.deviceLabel.text = text

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


def _question() -> str:
    missing = packages.missing_packages()
    lines = [
        _("{name} ({size})").format(name=name, size=packages.SIZES[name]) if name in packages.SIZES else name
        for name in missing
    ]
    told = _(
        "These packages will be downloaded and installed into Slicer's Python:\n{names}.\nSizes are rough, on the "
        "disk. PyTorch is installed by the extension PyTorch, which asks again. SimpleITK, torch and numpy that are "
        "there are never replaced."
    ).format(names=", ".join(lines) or _("none is missing"))
    if others := packages.replaceable():
        told += "\n" + _("These came with Slicer or another extension, and will be replaced: {names}.").format(
            names="; ".join(others)
        )
    return told


def _found(missing: list[str]) -> str:
    count = len(packages.NEEDED)
    if not missing:
        return _("All {count} found.").format(count=count)
    return _("{count} of {all} missing: {names}.").format(count=len(missing), all=count, names=", ".join(missing))


def _next_step(missing: list[str]) -> str:
    if missing:
        return _("Press Install.")
    others = packages.replaceable()
    if others:
        return _("Press Install to replace what MedSeqFT is not tested with: {names}.").format(names="; ".join(others))
    own = packages.unfit()
    if own:
        return _("Slicer's own, which stay, though MedSeqFT is tested with others: {names}.").format(
            names="; ".join(own)
        )
    return ""
