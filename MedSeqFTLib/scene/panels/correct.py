"""Correcting a segmentation in the Segment Editor, and accepting it as a case."""

from __future__ import annotations

from typing import Any

from MedSeqFTLib.scene.panels.panel import Panel
from MedSeqFTLib.scene.panels.session import Session


class CorrectPanel(Panel):
    """Correcting a segmentation in the Segment Editor, and accepting it as a case."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        super().__init__(ui, session, ui.correctCollapsibleButton, ui.correctStateLabel)
