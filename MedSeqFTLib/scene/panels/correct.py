"""Correcting a segmentation in the Segment Editor, and accepting it as a case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MedSeqFTLib.scene.panels.attention import Attention
from MedSeqFTLib.scene.panels.background import waited_for
from MedSeqFTLib.scene.panels.found import Found
from MedSeqFTLib.scene.panels.panel import Panel, on
from MedSeqFTLib.scene.panels.plain import plain
from MedSeqFTLib.scene.panels.session import Session
from MedSeqFTLib.scene.panels.shared_editor import SharedEditor
from MedSeqFTLib.scene.panels.storing import Storing, StoringWidgets

if TYPE_CHECKING:
    from MedSeqFTLib.scene.logic import SceneLogic
    from MedSeqFTLib.workspace.schema import Case


class CorrectPanel(Panel):
    """Accepting returns at once: the edit is on the disk then, and a worker files it."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        super().__init__(ui, session, ui.correctCollapsibleButton, ui.correctStateLabel)
        self._editor = SharedEditor(ui.segmentEditorWidget)
        self._found = Found(ui.correctReportLabel, ui.countButton, session, self._offer)
        self._attention = Attention(self._edited)
        widgets = StoringWidgets(ui.storingLabel, ui.notStoredListWidget, ui.resumeStoringButton, ui.discardButton)
        self._storing = Storing(widgets, session, session.changed)
        self._entered = False
        self._chosen_role = ""  # of the user, while a stored case shows its own
        self._shown: tuple[Any, Any] = (None, None)  # volume and segmentation
        on(ui.newSegmentationButton.clicked, self._new)
        on(ui.acceptButton.clicked, self._accept)

    def state(self) -> str:
        """How things stand with what is shown, and what was left behind."""
        return "\n".join(text for text in (self._why_not() or self._standing(), left_behind(self._nodes()[1])) if text)

    def _standing(self) -> str:
        from MedSeqFTLib.scene.marks import CASE, is_edited

        segmentation = self._nodes()[1]
        if is_edited(segmentation):
            return _("Edited, and not accepted yet.")
        return _("As it is stored.") if segmentation.GetAttribute(CASE) else _("Not edited, and not accepted yet.")

    def follow(self) -> None:
        self._match()
        volume, segmentation = self._nodes()
        self._attention.follow(segmentation, self._entered)
        self._editor.show(volume, segmentation)
        self._storing.look_again()

    def show(self) -> None:
        volume, segmentation = self._nodes()
        self.ui.correctVolumeLabel.text = volume.GetName() if volume is not None else _("none; choose it above")
        self.ui.newSegmentationButton.enabled = volume is not None
        self.ui.newSegmentationButton.toolTip = (
            _("Draw from nothing: a new segmentation with an empty segment for each label of the task.")
            if volume is not None
            else _("Choose a volume above first.")
        )
        self._found.of(volume, segmentation)
        self._offer()

    def enter(self) -> None:
        self._entered = True
        self._editor.enter()

    def exit(self) -> None:
        self._entered = False
        self._editor.exit()
        self._attention.follow(self._attention.node, False)

    def scene_closing(self) -> None:
        self._keep_all()
        self._shown = (None, None)
        self._found.of(None, None)
        self._attention.follow(None, False)

    def close(self) -> None:
        from MedSeqFTLib.scene.waiting import at_once

        self._keep_all()
        self.session.keeping.close(at_once)
        self._attention.close()
        self._found.close()
        self._storing.close()

    def _nodes(self) -> tuple[Any, Any]:
        return self.session.parameters.volume, self.session.parameters.segmentation

    def _logic(self) -> SceneLogic:
        assert self.session.logic is not None  # without a workspace there is an obstacle
        return self.session.logic

    def _match(self) -> None:
        """To a volume that the user chooses belongs its segmentation, and the other way round."""
        from MedSeqFTLib.scene.marks import segmentations_of, volume_of

        before = self._shown[1]
        if self._nodes()[1] is not before:
            self._leave(before)
        volume, segmentation = self._nodes()  # now: while an edit was written, something else may have been chosen
        if segmentation is not before:
            _show_instead(before, segmentation)
        if segmentation is not None and segmentation is not before:
            self.session.parameters.volume = volume_of(segmentation) or volume
        elif volume is not self._shown[0] and (segmentation is None or volume_of(segmentation) is not volume):
            own = segmentations_of(volume) if volume is not None else []
            self.session.parameters.segmentation = own[-1] if own else None
        self._shown = self._nodes()

    def _leave(self, node: Any) -> None:
        """An edit is on the disk before another segmentation is shown."""
        if node is not None and node.GetScene() is not None:
            self._keep([node])
            self.session.keeping.finish(waited_for)

    def _keep_all(self) -> None:
        self._keep(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"))

    def _keep(self, nodes: Sequence[Any]) -> None:
        if self.session.logic is not None and self.session.task:
            self.session.keeping.keep(self.session.logic, self.session.task, nodes)

    def _case(self) -> Case | None:
        """The stored case that is shown, if it is one, as far as the workspace was read."""
        with self.session.as_read():
            return self._logic().case_of(self.session.task, self.session.parameters.volume)

    def _edited(self) -> None:
        self._found.changed()
        self._state.text = self.state()
        self.ui.acceptButton.enabled = not self._why_not()

    def _offer(self) -> None:
        """Let the button and the role say what accepting would do, or why it cannot be done."""
        self._state.text = self.state()
        case, why_not = self._case(), self._why_not()
        button, role = self.ui.acceptButton, self.ui.roleComboBox
        button.text = _("Store correction of {case}").format(case=case.id) if case else _("Accept case")
        button.enabled = not why_not
        button.toolTip = plain(why_not) or _("Keeps volume and segmentation for the task. You can go on at once.")
        role.enabled = case is None
        role.toolTip = (
            _("A role never changes: {case} is a {role} case.").format(case=case.id, role=case.role.value)
            if case
            else _("The model learns from train cases, and is measured on validation cases.")
        )
        self._show_role(case)

    def _show_role(self, case: Case | None) -> None:
        """That of the case; of a new volume the one that the user chose last, not the last case's."""
        parameters = self.session.parameters
        if case is not None:
            self._chosen_role = self._chosen_role or parameters.role
            wanted = case.role.value
        else:
            wanted, self._chosen_role = self._chosen_role or parameters.role, ""
        if parameters.role != wanted:
            parameters.role = wanted

    def _why_not(self) -> str:
        volume, segmentation = self._nodes()
        if volume is None:
            return _("Choose a volume above first.")
        if segmentation is None:
            return _("Choose a segmentation, or make a new one.")
        if self._storing.is_storing(volume):
            return _("This volume is just being stored; wait a moment.")
        return self._found.obstacle

    def _new(self) -> None:
        self.session.parameters.segmentation = self._logic().new_segmentation(
            self.session.task, self.session.parameters.volume
        )

    def _accept(self) -> None:
        self.session.keeping.finish(waited_for)  # or else a draft would appear after its case
        logic, task, (volume, segmentation) = self._logic(), self.session.task, self._nodes()
        self._attention.follow(segmentation, self._entered)  # counts the time until now
        case = self._case()
        if case:
            job = logic.revise(task, case.id, volume, segmentation)
        else:
            job = logic.accept(task, volume, segmentation, self.session.parameters.role)
        self._storing.add(job)
        self.session.changed()


def _show_instead(before: Any, after: Any) -> None:
    """What is no longer chosen is hidden."""
    for node, visible in ((before, False), (after, True)):
        if node is not None and node.GetScene() is not None and node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(visible)


def left_behind(shown: Any) -> str:
    """Which segmentations other than the one that is shown wait to be accepted."""
    from MedSeqFTLib.scene.marks import is_edited

    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    names = ", ".join(node.GetName() for node in nodes if is_edited(node) and node is not shown)
    text = _("Edited and not accepted yet: {names}. They are kept in the scene and in the workspace.")
    return text.format(names=names) if names else ""
