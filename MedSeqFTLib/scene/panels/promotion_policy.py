"""What may become current in a workspace: a choice that takes a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.scene.panels.panel import on
from MedSeqFTLib.scene.panels.plain import plain
from MedSeqFTLib.scene.panels.session import Session

if TYPE_CHECKING:
    from MedSeqFTLib.scene.logic import SceneLogic
    from MedSeqFTLib.workspace.policy import Policy, Promotion

_ORDER: tuple[Promotion, ...] = ("better", "person", "never")  # as in the .ui


class PolicyChoice:
    """A list of the three policies, and a button that needs the reason typed above it."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        self.ui, self._session = ui, session
        self._shown: tuple[SceneLogic, Policy] | None = None
        on(ui.policyComboBox.currentIndexChanged, self.offer)
        on(ui.policyButton.clicked, self._change)

    def show(self) -> None:
        """The workspace's policy; what a person has chosen meanwhile stays, unless the policy itself has changed."""
        now = self._now()
        if now is not None and now != self._shown:
            self.ui.policyComboBox.setCurrentIndex(_ORDER.index(now[1].promotion))
        self._shown = now
        self.offer()

    def _now(self) -> tuple[SceneLogic, Policy] | None:
        logic = self._session.logic
        try:
            return (logic, logic.policy) if logic is not None else None
        except WorkspaceError:  # the folder is gone, as Set-up says
            return None

    def offer(self) -> None:
        """Whether the button can be pressed, and why not."""
        why = self._why_not()
        self.ui.policyButton.enabled = not why
        self.ui.policyButton.toolTip = plain(why) or _("Written into the audit log, with the reason.")

    def _why_not(self) -> str:
        if self._shown is None:
            return _("Open a workspace in Set-up first.")
        if self._chosen() == self._shown[1].promotion:
            return _("This is the policy already.")
        return "" if self._reason() else _("Write a reason above: it is kept in the audit log.")

    def _chosen(self) -> Promotion:
        return _ORDER[max(0, self.ui.policyComboBox.currentIndex)]

    def _reason(self) -> str:
        return str(self.ui.reasonLineEdit.text).strip()

    def _change(self) -> None:
        logic = self._session.logic
        assert logic is not None
        logic.change_policy(self._chosen(), self._reason())
        self.ui.reasonLineEdit.text = ""
        self._session.changed()
