"""Segmenting a volume of the scene with the task's current model, in the background."""

from __future__ import annotations

from typing import Any

from MedSeqFTLib.scene.panels.panel import Panel
from MedSeqFTLib.scene.panels.session import Session


class SegmentPanel(Panel):
    """Segmenting a volume of the scene with the task's current model, in the background."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        super().__init__(ui, session, ui.segmentCollapsibleButton, ui.segmentStateLabel)
