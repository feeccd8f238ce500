"""Choosing or making a task, and the versions of its model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from MedSeqFTLib.scene.panels.background import Background
from MedSeqFTLib.scene.panels.comparison import Comparison
from MedSeqFTLib.scene.panels.lineage import Row, current_text, measured_tasks, rows, why_not_promoted
from MedSeqFTLib.scene.panels.new_task import NewTask, show_labels
from MedSeqFTLib.scene.panels.panel import Panel, on, say
from MedSeqFTLib.scene.panels.plain import plain
from MedSeqFTLib.scene.panels.promotion_policy import PolicyChoice
from MedSeqFTLib.scene.panels.session import Session
from MedSeqFTLib.scene.panels.tables import chosen_text, fill, fit_height


class TaskPanel(Panel):
    """Choosing or making a task, and the versions of its model."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        super().__init__(ui, session, ui.taskCollapsibleButton, ui.taskStateLabel)
        self._rows: list[Row] = []
        self._sentence = ""  # on the current version, and on what is damaged
        self._background = Background()
        self._new_task = NewTask(ui, session)
        self._comparison = Comparison(ui, session)
        self._policy = PolicyChoice(ui, session)
        ui.labelsTable.visible = ui.lineageTable.visible = False
        say(ui.versionStateLabel, "")
        on(ui.taskComboBox.currentIndexChanged, self._chosen)
        on(ui.lineageTable.itemSelectionChanged, self._offer)
        on(ui.reasonLineEdit.textChanged, self._offer)
        on(ui.compareFirstComboBox.currentIndexChanged, self._offer)
        on(ui.compareSecondComboBox.currentIndexChanged, self._offer)
        on(ui.promoteButton.clicked, self._promote)
        on(ui.rollBackButton.clicked, self._roll_back)

    def obstacle(self) -> str:
        return "" if self.session.logic else _("Open a workspace in Set-up first.")

    def state(self) -> str:
        return self._sentence

    def _current(self) -> str:
        logic, task = self.session.logic, self.session.task
        if logic is None or not task:
            return _("No task yet: press New task, with a segmentation whose segments name the structures.")
        return current_text(logic, task)

    def follow(self) -> None:
        assert self.session.logic is not None
        self._fill_tasks(self.session.logic.workspace.task_names())

    def show(self) -> None:
        from MedSeqFTLib.workspace.damage import in_short, read_or, shown_only

        logic, task = self.session.logic, self.session.task
        assert logic is not None
        with shown_only() as left_out:
            chosen = read_or(lambda: logic.workspace.task(task), None) if task else None
            self._rows = read_or(lambda: rows(logic, task), [])
            current = read_or(self._current, "")
        self._sentence = " ".join(filter(None, (current, in_short(left_out))))
        show_labels(self.ui.labelsTable, chosen.labels if chosen else ())
        self.ui.labelsTable.visible = chosen is not None
        self._fill_lineage()
        self._new_task.show()
        self._policy.show()
        self._offer()

    def close(self) -> None:
        self._new_task.close()
        self._comparison.close()
        self._background.close()

    # the task

    def _fill_tasks(self, names: list[str]) -> None:
        """The list follows the workspace. A new scene names no task, and gets the one that was chosen before."""
        combo = self.ui.taskComboBox
        before = [name for name in (self.session.task, str(combo.currentText), *names) if name in names]
        combo.blockSignals(True)
        combo.clear()
        combo.addItems(names)
        if before:
            combo.setCurrentIndex(names.index(before[0]))
        if before and self.session.parameters.task != before[0]:  # or else the scene would count as changed
            self.session.parameters.task = before[0]
        combo.enabled = bool(names)
        combo.blockSignals(False)

    def _chosen(self) -> None:
        self.session.parameters.task = str(self.ui.taskComboBox.currentText)  # and all panels look again

    # the versions

    def _fill_lineage(self) -> None:
        tasks = measured_tasks(self._rows)
        headers = [_("Version"), _("Status"), *(_("Dice {task}").format(task=task) for task in tasks)]
        headers += [_("From"), _("Cases"), _("Made")]
        lines = [_texts(row, tasks) for row in self._rows]
        fill(self.ui.lineageTable, headers, lines, numbers=range(2, 2 + len(tasks)))
        fit_height(self.ui.lineageTable, 6, wide=True)
        self.ui.lineageTable.visible = bool(lines)

    def _row(self) -> Row | None:
        chosen = chosen_text(self.ui.lineageTable)
        return next((row for row in self._rows if row.version == chosen), None)

    def _reason(self) -> str:
        return str(self.ui.reasonLineEdit.text).strip()

    def _offer(self) -> None:
        """Which buttons can be pressed, and why not the others."""
        logic, task, ui = self.session.logic, self.session.task, self.ui
        if logic is None:
            return
        busy = _("Another version is just becoming current.") if self._background.is_active else ""
        no_task = "" if task else _("Choose or create a task first.")
        row = self._row()
        why = busy or no_task or why_not_promoted(logic, task, row, self._reason())
        tip = _("{version} will segment {task}, and the next adaptation starts from it.")
        ui.promoteButton.enabled = not why
        ui.promoteButton.toolTip = plain(why) or tip.format(version=row.version if row else "", task=task)
        current = next((row for row in self._rows if row.is_current), None)
        none = _("No version is current, so there is nothing to take back.") if current is None else ""
        why_not_back = busy or no_task or none
        ui.rollBackButton.enabled = not why_not_back
        ui.rollBackButton.toolTip = plain(why_not_back) or _(
            "Takes back the last promotion; the version itself is kept."
        )
        self._policy.offer()
        say(ui.versionStateLabel, why if row is not None and not row.is_current else "")
        able = [row.version for row in self._rows if row.task == task and task]
        self._comparison.show(able, current.version if current else "", task)

    def _promote(self) -> None:
        row, logic, reason = self._row(), self.session.logic, self._reason()
        assert row is not None and logic is not None
        told = _("Checking the files of {version}...").format(version=row.version)
        self._move(lambda: logic.promote(row.version, reason), told)

    def _roll_back(self) -> None:
        logic, task, reason = self.session.logic, self.session.task, self._reason()
        assert logic is not None
        self._move(lambda: logic.roll_back(task, reason), _("Taking back the last promotion..."))

    def _move(self, action: Callable[[], object], told: str) -> None:
        """In the background: files are read to be checked, and another process may be writing."""
        self._background.run(action, lambda _result: self._moved(), self._offer)
        say(self.ui.versionStateLabel, told)
        self.ui.promoteButton.enabled = self.ui.rollBackButton.enabled = False

    def _moved(self) -> None:
        self.ui.reasonLineEdit.text = ""
        self.session.changed()


def _texts(row: Row, tasks: list[str]) -> list[str]:
    dice = (f"{row.dice[task]:.3f}" if task in row.dice else "" for task in tasks)
    cases = _("{train} + {held_out}").format(train=row.training, held_out=row.held_out)
    return [row.version, row.status, *dice, row.parent, cases, row.created]
