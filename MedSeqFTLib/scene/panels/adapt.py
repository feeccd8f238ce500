"""Adapting the model to the accepted cases, in the background."""

from __future__ import annotations

from typing import Any

from MedSeqFTLib.scene.panels.panel import Panel
from MedSeqFTLib.scene.panels.session import Session


class AdaptPanel(Panel):
    """Adapting the model to the accepted cases, in the background."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        super().__init__(ui, session, ui.adaptCollapsibleButton, ui.adaptStateLabel)
