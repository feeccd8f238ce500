"""Which program this is, which packages it lacks, and which workspace is open."""

from __future__ import annotations

import platform
from typing import Any

import slicer
from slicer.i18n import tr as _

from MedSeqFTLib.scene.panels.packages import NEEDED, missing_packages
from MedSeqFTLib.scene.panels.panel import Panel
from MedSeqFTLib.scene.panels.session import Session


class SetUpPanel(Panel):
    """Can always be used. Looks without importing anything heavy."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        super().__init__(ui, session, ui.setUpCollapsibleButton, ui.packagesLabel)

    def obstacle(self) -> str:
        return ""

    def state(self) -> str:
        missing = missing_packages()
        return f"{_found(missing)} {_next_step(missing)}"

    def show(self) -> None:
        program = _("Slicer {slicer}, Python {python}, {system}")
        self.ui.programLabel.text = program.format(
            slicer=slicer.app.applicationVersion, python=platform.python_version(), system=platform.system()
        )


def _found(missing: list[str]) -> str:
    if not missing:
        return _("All {count} found.").format(count=len(NEEDED))
    return _("{count} of {all} missing: {names}.").format(count=len(missing), all=len(NEEDED), names=", ".join(missing))


def _next_step(missing: list[str]) -> str:
    if not missing:
        return ""
    if "torch" in missing:
        return _("Begin with PyTorch: install the extension PyTorch, and let it install.")
    return _("The command line does not need them: it installs its own.")
