"""The volumes of the scene and of the workspace, and which one to take next."""

from __future__ import annotations

from typing import Any

from MedSeqFTLib.scene.panels.panel import Panel
from MedSeqFTLib.scene.panels.session import Session


class WorklistPanel(Panel):
    """The volumes of the scene and of the workspace, and which one to take next."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        super().__init__(ui, session, ui.worklistCollapsibleButton, ui.worklistStateLabel)
