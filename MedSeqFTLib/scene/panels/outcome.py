"""What an adaptation was worth: Dice before and after, and which cases were kept, in two tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from MedSeqFTLib.scene.panels.plain import plain

if TYPE_CHECKING:
    from MedSeqFTLib.evaluation.gate import Judgement
    from MedSeqFTLib.evaluation.report import DiceRow
    from MedSeqFTLib.learning.promotion import Verdict
    from MedSeqFTLib.workspace.schema import SelectionScore

_NOTHING = "\u2013"
_JUDGED = 5  # column
_JUDGEMENTS: dict[Judgement, str] = {
    "better": _("better"),
    "no worse within the margin": _("no worse"),
    "worse": _("worse"),
    "not enough evidence": _("unclear"),
}


def fill_outcome(tree: Any, rows: Sequence[DiceRow], own: str, verdict: Verdict) -> None:
    """A row for each task and reading with the mean of its labels, and below it a row for each label.

    Where the gate compares, its judgement stands in the last column.

    The task's `own` row comes first, then the earlier tasks, then all tasks by the one model.
    """
    tree.clear()
    ordered = sorted(rows, key=lambda row: (row.reading != "per-task", row.task != own, row.task))
    for (reading, task), labels in groupby(ordered, lambda row: (row.reading, row.task)):
        found = list(labels)
        name = task if reading == "per-task" else _("{task} (one model)").format(task=task)
        befores, afters = ([getattr(row, when) for row in found] for when in ("before", "after"))
        parent = _dice_item(tree, name, _mean(befores), _mean(afters), max(row.cases for row in found))
        if reading != "per-task":
            parent.setToolTip(0, _("By the newest model with the heads of all tasks; here forgetting would show."))
        if comparison := verdict.of(task, reading):
            parent.setText(_JUDGED, _JUDGEMENTS[comparison.judgement])
            parent.setToolTip(_JUDGED, plain(str(comparison)))
        for row in found:
            _dice_item(parent, row.label, row.before, row.after, row.cases)
        parent.setExpanded(reading == "per-task")
    _fit(tree)


def fill_picks(tree: Any, scores: Sequence[SelectionScore]) -> None:
    """A row for each training case, the kept ones first."""
    tree.clear()
    for score in scores:
        item = qt.QTreeWidgetItem(tree)
        loss = _NOTHING if score.loss is None else f"{score.loss:.4f}"
        _write(item, (score.case, loss, _("kept") if score.kept else _("left"), score.reason), numbers=(1,))
        item.setToolTip(0, plain(score.case))
        item.setToolTip(1, _accuracy(score))
        item.setToolTip(3, plain(score.reason))
    _fit(tree)


def _dice_item(parent: Any, name: str, before: float | None, after: float | None, cases: int) -> Any:
    item = qt.QTreeWidgetItem(parent)
    change = _NOTHING if before is None or after is None else f"{after - before:+.3f}"
    _write(item, (name, _dice(before), _dice(after), change, str(cases)), numbers=range(1, 5))
    item.setToolTip(0, plain(name))
    return item


def _write(item: Any, texts: Sequence[str], numbers: Iterable[int]) -> None:
    """Into the columns from left to right; numbers stand at the right."""
    for column, text in enumerate(texts):
        item.setText(column, text)
    for column in numbers:
        item.setTextAlignment(column, qt.Qt.AlignRight | qt.Qt.AlignVCenter)


def _dice(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.3f}"


def _mean(values: Sequence[float | None]) -> float | None:
    """None when a label was not measured: a mean over other labels than before would not compare."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _accuracy(score: SelectionScore) -> str:
    if score.interval is None:
        return _("Mean over {passes} passes.").format(passes=score.passes)
    low, high = score.interval
    return _("Mean over {passes} passes; 95 % between {low} and {high}.").format(
        passes=score.passes, low=f"{low:.4f}", high=f"{high:.4f}"
    )


def _fit(tree: Any) -> None:
    for column in range(tree.columnCount):
        tree.resizeColumnToContents(column)
