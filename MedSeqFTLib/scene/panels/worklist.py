"""The volumes of the scene and of the workspace, and which one to take next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.scene.panels.background import Background, waited_for
from MedSeqFTLib.scene.panels.corrections import Corrections
from MedSeqFTLib.scene.panels.job_watch import duration
from MedSeqFTLib.scene.panels.panel import Panel, guarded, on
from MedSeqFTLib.scene.panels.plain import plain
from MedSeqFTLib.scene.panels.segment import percent
from MedSeqFTLib.scene.panels.session import Session

if TYPE_CHECKING:
    from MedSeqFTLib.scene.logic import SceneLogic
    from MedSeqFTLib.scene.worklist import Method, Row, Stored, Suggestion

MOST = 200  # rows that are filled in; others are found by a part of their name
WIDEST = 120  # pixels of the names; a longer one is told by its tooltip


class WorklistPanel(Panel):
    """What is chosen in its table is opened; which one to take next is suggested with the reason."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        super().__init__(ui, session, ui.worklistCollapsibleButton, ui.worklistStateLabel)
        self._rows: list[Row] = []  # all of them
        self._listed: list[Row] = []  # those in the table
        self._texts: list[tuple[str, ...]] = []  # that the table shows
        self._reason = self._suggested = self._damaged = ""
        self._background = Background()  # reads what is opened
        self._choosing = Background()  # which one to take next
        self._corrections = Corrections(ui, session)
        on(ui.worklistSearchLineEdit.textChanged, self._search)
        on(ui.suggestButton.clicked, self._suggest)
        on(ui.openButton.clicked, self._open)
        on(ui.worklistTableWidget.itemSelectionChanged, self._offer)
        ui.worklistTableWidget.cellDoubleClicked.connect(lambda *_cell: guarded(self._open))

    def obstacle(self) -> str:
        return self.session.why_no_list()

    def state(self) -> str:
        return self._reason or self._counted()

    def show(self) -> None:
        from MedSeqFTLib.workspace.damage import in_short, shown_only

        chosen = self._chosen()
        with shown_only() as left_out:
            self._rows = self._logic().worklist(self.session.task)
        self._damaged = in_short(left_out)
        if not any(row.is_open and row.name == self._suggested for row in self._rows):
            self._suggested = self._reason = ""
        self._list(chosen.name if chosen else "")
        self._corrections.show()

    def _counted(self) -> str:
        return " ".join(filter(None, (self._count(), self._damaged)))

    def _count(self) -> str:
        if not self._rows:
            return _("Load a volume to begin with.")
        done = sum(row.status == "accepted" for row in self._rows)
        text = _("{done} of {all} volumes are accepted.").format(done=done, all=len(self._rows))
        if len(self._listed) == len(self._rows):
            return text
        listed = _("{count} are listed: search for the others.").format(count=len(self._listed))
        return f"{text} {listed}"

    def _search(self) -> None:
        chosen = self._chosen()
        self._list(chosen.name if chosen else "")
        self._reason = ""
        self._state.text = self.state()

    def _list(self, chosen: str) -> None:
        """Those with the text in their name; what is suggested or chosen comes first, then what nobody has begun."""
        wanted = str(self.ui.worklistSearchLineEdit.text).strip().casefold()
        found = [row for row in self._rows if wanted in row.name.casefold()]
        if len(found) > MOST:
            found = sorted(found, key=lambda row: (row.name not in (self._suggested, chosen), row.status == "accepted"))
            found = sorted(found[:MOST], key=lambda row: row.name.casefold())
        self._listed = found
        self._fill()
        self._select(chosen)
        self._offer()

    def scene_closing(self) -> None:
        self._background.close()
        self._choosing.close()
        self._rows, self._listed, self._texts = [], [], []  # rows would keep volumes in memory
        self.ui.worklistTableWidget.setRowCount(0)

    def close(self) -> None:
        self._corrections.close()
        self._background.close()
        self._choosing.close()

    def _logic(self) -> SceneLogic:
        assert self.session.logic is not None  # without a workspace there is an obstacle
        return self.session.logic

    def _fill(self) -> None:
        table, texts = self.ui.worklistTableWidget, [_cells(row) for row in self._listed]
        if texts == self._texts:
            return
        self._texts = texts
        table.setRowCount(len(texts))
        for number, cells in enumerate(texts):
            for column, text in enumerate(cells):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(plain(text))
                table.setItem(number, column, item)
        table.resizeColumnsToContents()
        table.setColumnWidth(0, min(table.columnWidth(0), WIDEST))

    def _chosen(self) -> Row | None:
        number = self.ui.worklistTableWidget.currentRow()
        return self._listed[number] if 0 <= number < len(self._listed) else None

    def _select(self, name: str) -> None:
        for number, row in enumerate(self._listed):
            if row.name == name:
                self.ui.worklistTableWidget.selectRow(number)

    def _offer(self) -> None:
        row = self._chosen()
        why_not = _("A volume is just being read.") if self._background.is_active else _why_not(row)
        self.ui.openButton.enabled = not why_not
        self.ui.openButton.toolTip = plain(why_not) or _("Shows the volume with its segmentation, to be corrected.")
        self.ui.suggestButton.enabled = not self._choosing.is_active

    def _suggest(self) -> None:
        """On a thread: every candidate is compared with every accepted one."""
        from MedSeqFTLib.scene.worklist import looked_at

        method, shown = self.session.parameters.suggestion, self._what_is_shown()
        with self.session.as_read():  # unlike what is shown, an error if something is damaged
            rows = looked_at(self._logic().worklist(self.session.task))
        self._choosing.run(lambda: _suggestion(rows, method), lambda found: self._tell(found, shown), self._offer)
        self._offer()

    def _tell(self, found: Suggestion | InputError, shown: object) -> None:
        self._offer()
        if shown != self._what_is_shown():
            return
        if isinstance(found, InputError):
            self._state.text = str(found)
            return
        self._reason, self._suggested = reason(found), found.row.name
        self.ui.worklistSearchLineEdit.blockSignals(True)
        self.ui.worklistSearchLineEdit.text = ""  # or else it might not be listed
        self.ui.worklistSearchLineEdit.blockSignals(False)
        self.refresh()
        self._select(found.row.name)

    def _what_is_shown(self) -> object:
        """The user may go elsewhere while something is done on a thread."""
        return self.session.logic, self.session.task

    def _open(self) -> None:
        self.session.keeping.finish(waited_for)  # what was left just now may be what is opened
        row = self._chosen()
        if why_not := _why_not(row):
            raise InputError(why_not)
        assert row is not None
        if self._background.is_active:
            return
        shown, reading = self._what_is_shown(), self._logic().reading(self.session.task, row)
        self._background.run(reading, lambda stored: self._place(row, stored, shown), self._offer)
        self._offer()

    def _place(self, row: Row, stored: Stored, shown: object) -> None:
        self._offer()
        if shown != self._what_is_shown():
            return
        volume, segmentation = self._logic().open_row(self.session.task, row, stored)
        self.session.parameters.volume = volume
        self.session.parameters.segmentation = segmentation
        self.session.changed()


def _suggestion(rows: list[Row], method: Method) -> Suggestion | InputError:
    from MedSeqFTLib.scene.worklist import suggest

    try:
        return suggest(rows, method)
    except InputError as error:
        return error


def _why_not(row: Row | None) -> str:
    if row is None:
        return _("Select a volume in the table first.")
    if row.status in ("being stored", "not stored") and row.volume is None and row.entry is None:
        return _("{name} is not stored yet: wait, or resume storing it in Correct.").format(name=row.name)
    if row.volume is None and (row.entry is None or row.entry.case is None):
        source = (row.entry.record.source_image if row.entry else "") or row.name
        return _("The workspace keeps the segmentation of {name}, not its volume: load {source}.").format(
            name=row.name, source=source
        )
    return ""


def _cells(row: Row) -> tuple[str, ...]:
    entry = row.entry
    case = entry.case if entry else None
    return (
        row.name,
        _status(row),
        case.role.value if case else "",
        (entry.version if entry else None) or "",
        percent(row.confidence) if row.confidence is not None else "",
        "" if case is None or case.proposal_dice is None else f"{case.proposal_dice:.3f}",
        "" if entry is None or entry.seconds is None else duration(entry.seconds),
    )


def _status(row: Row) -> str:
    words = {
        "not segmented": _("not segmented"),
        "proposed": _("proposed"),
        "edited": _("edited"),
        "being stored": _("being stored"),
        "not stored": _("not stored"),
        "accepted": _("accepted"),
    }
    return words[row.status]


def reason(found: Suggestion) -> str:
    """Why this volume comes next, with its score, in words."""
    if found.method == "lowest confidence":
        text = _("{name}: its model was the least sure of it, {score} on average (proposals: {count}).")
        score = percent(found.score)
    elif found.method == "most unlike":
        text = _("{name}: the most unlike the accepted ones by size and intensity, {score} (volumes: {count}).")
        score = _("{number} standard deviations from the nearest").format(number=f"{found.score:.1f}")
    else:
        text = _("{name}: drawn at random (volumes: {count}, seed: {score}).")
        score = f"{found.score:.0f}"
    return text.format(name=found.row.name, count=found.candidates, score=score)
