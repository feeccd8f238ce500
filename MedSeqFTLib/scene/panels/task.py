"""Choosing or making a task, and the versions of its model."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from MedSeqFTLib.scene.panels.panel import Panel
from MedSeqFTLib.scene.panels.session import Session


class TaskPanel(Panel):
    """Choosing or making a task, and the versions of its model."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        super().__init__(ui, session, ui.taskCollapsibleButton, ui.taskStateLabel)

    def obstacle(self) -> str:
        return "" if self.session.logic else _("Open a workspace in Set-up first.")
