"""Filling tables with rows of text."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import qt

from MedSeqFTLib.scene.panels.plain import plain

_ROW, _HEADER, _SCROLL_BAR = 22, 26, 18  # pixels


def fill(table: Any, headers: Sequence[str], rows: Sequence[Sequence[str]], numbers: Container[int] = ()) -> None:
    """Replace what a table shows; columns of `numbers` stand at the right. The table is not editable.

    The row that was chosen stays chosen, if there is one with the same first text.
    """
    chosen = chosen_text(table)
    right = qt.Qt.AlignRight | qt.Qt.AlignVCenter
    left = qt.Qt.AlignLeft | qt.Qt.AlignVCenter
    table.blockSignals(True)
    table.clear()
    table.setColumnCount(len(headers))
    table.setRowCount(len(rows))
    table.setHorizontalHeaderLabels(list(headers))
    for line, texts in enumerate(rows):
        for column, text in enumerate(texts):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(plain(text))
            item.setTextAlignment(right if column in numbers else left)
            table.setItem(line, column, item)
    again = [line for line, texts in enumerate(rows) if chosen is not None and texts[0] == chosen]
    table.setCurrentCell(again[0] if again else -1, 0)
    table.resizeColumnsToContents()
    table.blockSignals(False)


def chosen_text(table: Any) -> str | None:
    """The first text of the row that is chosen; None if none is."""
    row = table.currentRow()
    item = table.item(row, 0) if row >= 0 else None
    return None if item is None else str(item.text())


def paint(table: Any, row: int, color: tuple[float, float, float]) -> None:
    """A swatch before the text of the first column."""
    swatch = qt.QPixmap(14, 14)
    swatch.fill(qt.QColor(*(round(255 * part) for part in color)))
    table.item(row, 0).setIcon(qt.QIcon(swatch))


def fit_height(table: Any, most: int, wide: bool = False) -> None:
    """As high as its rows need, but at most `most` rows: a longer table scrolls; a wide one to the side, too."""
    rows = min(max(table.rowCount, 1), most)
    row = table.rowHeight(0) if table.rowCount else _ROW
    table.setFixedHeight(_HEADER + rows * row + (_SCROLL_BAR if wide else 0))
