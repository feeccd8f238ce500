"""A new task from the segments of a segmentation: what it would be, and making it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.scene.panels.background import Background
from MedSeqFTLib.scene.panels.panel import on, say
from MedSeqFTLib.scene.panels.plain import plain
from MedSeqFTLib.scene.panels.session import Session
from MedSeqFTLib.scene.panels.tables import fill, fit_height, paint

if TYPE_CHECKING:
    from MedSeqFTLib.workspace.schema import Label, Task

ROWS = 8


class NewTask:
    """The part of the panel that is seen while "New task..." is pressed."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        self.ui, self._session = ui, session
        self._background = Background()  # another process may be writing, and is waited for
        ui.newTaskFrame.visible = False
        on(ui.newTaskButton.clicked, self.show)
        on(ui.newTaskNameLineEdit.textChanged, self._offer)
        on(ui.newTaskModalityComboBox.currentIndexChanged, self._offer)
        ui.newTaskSegmentationSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda *_node: self.show())
        on(ui.createTaskButton.clicked, self._create)

    def show(self) -> None:
        """What the task would be, as the segments are now."""
        ui = self.ui
        ui.newTaskFrame.visible = bool(ui.newTaskButton.checked)
        if ui.newTaskButton.checked:
            self._offer()

    def close(self) -> None:
        """The window is going."""
        self._background.close()

    def _offer(self) -> None:
        ui = self.ui
        labels, why = self._labels()
        show_labels(ui.newTaskLabelsTable, labels)
        ui.newTaskLabelsTable.visible = bool(labels)
        ui.createTaskButton.enabled = not why
        say(ui.newTaskStateLabel, why)
        ui.createTaskButton.toolTip = plain(why) or _("Names, terminology and values are pinned from now on.")

    def _labels(self) -> tuple[Sequence[Label], str]:
        """What the task would have, and why it cannot be made."""
        from MedSeqFTLib.scene.tasks import task_of

        ui = self.ui
        node = ui.newTaskSegmentationSelector.currentNode()
        if node is None:
            return (), _("Choose a segmentation; its segments become the labels.")
        name, modality = str(ui.newTaskNameLineEdit.text).strip(), str(ui.newTaskModalityComboBox.currentText)
        try:
            labels = task_of("unnamed", modality, node).labels
        except MedSeqFTError as error:
            return (), str(error)
        if not name:
            return labels, _("Give the task a name.")
        try:
            task_of(name, modality, node)
        except MedSeqFTError as error:
            return labels, str(error)
        return labels, self._taken(name)

    def _taken(self, name: str) -> str:
        logic = self._session.logic
        taken = logic is not None and name.casefold() in map(str.casefold, logic.workspace.task_names())
        return _("The workspace has a task {name} already; choose another name.").format(name=name) if taken else ""

    def _create(self) -> None:
        from MedSeqFTLib.scene.tasks import task_of

        ui, logic = self.ui, self._session.logic
        assert logic is not None
        node = ui.newTaskSegmentationSelector.currentNode()
        name, modality = str(ui.newTaskNameLineEdit.text).strip(), str(ui.newTaskModalityComboBox.currentText)
        task = task_of(name, modality, node)
        self._background.run(lambda: logic.workspace.add_task(task), self._created, self._offer)
        ui.createTaskButton.enabled = False

    def _created(self, task: Task) -> None:
        self._session.parameters.task = task.name
        self.ui.newTaskNameLineEdit.text = ""
        self.ui.newTaskButton.checked = False
        self._session.changed()


def show_labels(table: Any, labels: Sequence[Label]) -> None:
    """Swatch and value, name, terminology."""
    lines = [(str(label.value), label.name, _code(label)) for label in labels]
    fill(table, (_("Value"), _("Name"), _("Terminology")), lines)
    for row, label in enumerate(labels):
        paint(table, row, label.color)
    fit_height(table, ROWS)


def _code(label: Label) -> str:
    if label.code is None:
        return ""
    return _("{meaning} ({scheme} {value})").format(
        meaning=label.code.meaning, scheme=label.code.scheme, value=label.code.value
    )
