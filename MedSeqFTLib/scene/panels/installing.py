"""The button that installs: asks first, tells how it goes, and goes on after a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

import MedSeqFTLib.scene.panels.packages as packages
from MedSeqFTLib.scene.panels.install import Installer
from MedSeqFTLib.scene.panels.panel import on, say
from MedSeqFTLib.scene.panels.plain import plain

PENDING = "MedSeqFT/installing"
LOG = "MedSeqFT-install.log"


class Installing:
    """The install button with its bar and label."""

    def __init__(self, ui: Any, changed: Callable[[], None], finished: Callable[[], None]) -> None:
        """Connect the widgets.

        Args:
            changed: is called at the end of each attempt, when packages may have come.
            finished: is called when all packages can be imported.
        """
        self.ui, self._changed, self._finished = ui, changed, finished
        log = Path(str(qt.QSettings().fileName())).parent / LOG  # where Slicer keeps the user's settings
        self._installer = Installer(log, self._told, self._ended)
        on(ui.installButton.clicked, self._install)
        ui.installBar.visible = False
        say(ui.installLabel, "")

    @property
    def is_unfinished(self) -> bool:
        """True if there is something to install, or an installation was begun and has not ended well."""
        return bool(packages.missing_packages() or packages.replaceable() or _is_pending())

    @property
    def wording(self) -> str:
        """What is written on the button, without dots: for a sentence."""
        return _("Go on installing") if _is_pending() else _("Install packages")

    def offer(self) -> None:
        """Whether the button can be pressed, and why not."""
        button = self.ui.installButton
        button.text = _("Go on installing") if _is_pending() else _("Install packages...")
        button.enabled = self.is_unfinished and not self._installer.is_active
        if self._installer.is_active:
            button.toolTip = _("The installation is running.")
        elif self.is_unfinished:
            button.toolTip = _("Shows first what will be installed, and asks.")
        else:
            button.toolTip = _("All packages are there.")

    def go_on(self) -> None:
        """After a restart: see whether all is well now, or tell what is left to do. Nothing is installed unasked."""
        if not _is_pending() or self._installer.is_active:
            return
        if packages.missing_packages():
            say(self.ui.installLabel, _("The installation is not complete: press Go on installing."))
        else:
            self._installer.check()

    def close(self) -> None:
        """The window is going."""
        self._installer.close()

    def _install(self) -> None:
        if _is_pending() or slicer.util.confirmOkCancelDisplay(_question(), _("Install packages")):
            qt.QSettings().setValue(PENDING, True)
            self._installer.start()

    def _told(self, text: str) -> None:
        self.ui.installBar.visible = True
        say(self.ui.installLabel, text)
        self.offer()
        slicer.app.processEvents()  # what follows may be a pip that holds the window up

    def _ended(self, why: str) -> None:
        self.ui.installBar.visible = False
        packages.look_again()
        done = not why and not self._installer.needs_restart
        if done or self._installer.was_refused:
            qt.QSettings().remove(PENDING)
        self._changed()
        if self._installer.was_refused:
            say(self.ui.installLabel, why)
        elif why:
            self._complain(why)
        elif not done:
            self._ask_for_restart()
        else:
            say(self.ui.installLabel, _("All packages are there, and can be imported."))
            self._finished()

    def _ask_for_restart(self) -> None:
        say(self.ui.installLabel, _("Restart Slicer to finish: packages were replaced that it has loaded."))
        question = _("Slicer has to be restarted to finish the installation. Restart now? Save your work first.")
        if slicer.util.confirmOkCancelDisplay(question, _("Install packages")):
            slicer.util.restart()

    def _complain(self, why: str) -> None:
        last = _("The whole log is in {path}. Press Go on installing after mending it: what is done stays done.")
        last = last.format(path=self._installer.log)
        say(self.ui.installLabel, f"{why} {last}")
        text = _("{why}\n\n{last}\n\nLast lines of the log:\n{lines}").format(
            why=why, last=last, lines=self._installer.log_tail()
        )
        slicer.util.errorDisplay(plain(text), windowTitle=_("Install packages"))


def _is_pending() -> bool:
    return bool(qt.QSettings().value(PENDING))


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
