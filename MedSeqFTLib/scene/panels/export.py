"""Handing segmentations on as files."""

from __future__ import annotations

from typing import Any

from MedSeqFTLib.scene.panels.panel import Panel
from MedSeqFTLib.scene.panels.session import Session


class ExportPanel(Panel):
    """Handing segmentations on as files."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        super().__init__(ui, session, ui.exportCollapsibleButton, ui.exportStateLabel)
