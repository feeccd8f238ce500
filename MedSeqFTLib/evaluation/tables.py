"""Tables as plain rows, and how they are written: Markdown for people, CSV with plain numbers for programs.

Shares (Dice, NSD) have three decimals, their differences are points (hundredths) with one, distances are mm with one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from MedSeqFTLib.errors import visible
from MedSeqFTLib.evaluation.bootstrap import Interval

Kind = Literal["text", "task", "share", "points", "mm", "mm change", "ratio", "seconds", "mib", "count"]
Value = str | int | float | Interval | None
Tone = Literal["better", "worse", "unclear", ""]

_FORMULA = ("=", "+", "-", "@")
NOTHING = "\u2013"  # where there is no figure
_MARKDOWN = str.maketrans({sign: f"\\{sign}" for sign in "\\|*_`[]"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


@dataclass(frozen=True)
class _Form:
    decimals: int
    factor: float = 1.0
    sign: bool = False
    unit: str = ""


_FORMS: dict[Kind, _Form] = {
    "share": _Form(3),
    "points": _Form(1, 100.0, sign=True, unit="points"),
    "mm": _Form(1, unit="mm"),
    "mm change": _Form(1, sign=True, unit="mm"),
    "ratio": _Form(2),
    "seconds": _Form(1, unit="s"),
    "mib": _Form(0, unit="MiB"),
    "count": _Form(0),
}


@dataclass(frozen=True)
class Column:
    """A column; `group` names the heading above it that it shares with its neighbours."""

    name: str
    kind: Kind = "text"
    group: str = ""
    interval: bool = False  # its values are intervals
    lower_is_better: bool = False

    @property
    def is_number(self) -> bool:
        """Its values are numbers, or words in place of one."""
        return self.kind in _FORMS

    @property
    def unit(self) -> str:
        """Empty where there is none."""
        return _FORMS[self.kind].unit if self.is_number else ""

    @property
    def title(self) -> str:
        """Group: name (unit)."""
        name = f"{self.name} ({self.unit})" if self.unit else self.name
        return f"{self.group}: {name}" if self.group else name

    def number(self, value: float) -> str:
        """A number of this column with its sign and decimals; a real minus sign; never a negative zero."""
        form = _FORMS[self.kind]
        rounded = round(value * form.factor, form.decimals) + 0.0
        text = f"{rounded:{'+' if form.sign and rounded else ''},.{form.decimals}f}"
        return text.replace("-", "\u2212")

    def text(self, value: Value) -> str:
        """A value as people read it: 0.812, +1.2, a dash."""
        if isinstance(value, Interval):
            return self.number(value.mean)
        if value is None:
            return NOTHING
        if isinstance(value, str):
            return value.replace("_", " ") if self.kind == "task" else value
        return self.number(value)

    def range(self, value: Value) -> str:
        """+0.4 to +2.0; empty where there is no interval."""
        return f"{self.number(value.low)} to {self.number(value.high)}" if isinstance(value, Interval) else ""

    def full(self, value: Value) -> str:
        """+1.2 (+0.4 to +2.0)."""
        bounds = self.range(value)
        return self.text(value) + (f" ({bounds})" if bounds else "")

    def tone(self, value: Value) -> Tone:
        """Of a difference: better or worse where its interval, as shown, lies wholly on one side of 0."""
        if not isinstance(value, Interval) or not _FORMS[self.kind].sign:
            return ""
        low, high = (self._shown(bound) for bound in (value.low, value.high))
        if low <= 0 <= high:
            return "unclear"
        return "better" if (low > 0) != self.lower_is_better else "worse"

    def _shown(self, value: float) -> float:
        form = _FORMS[self.kind]
        return round(value * form.factor, form.decimals)

    def plain(self, value: Value) -> list[str]:
        """The fields of a value in a CSV file: one; of an interval mean, low, high and the number of runs."""
        if isinstance(value, Interval):
            return [*(self._field(part) for part in (value.mean, value.low, value.high)), str(value.runs)]
        return [self._field(value), *[""] * (len(self.heads) - 1)]

    @property
    def heads(self) -> list[str]:
        """The headings of the fields."""
        return [self.title, *(f"{self.title}, {part}" for part in ("low", "high", "runs") if self.interval)]

    def _field(self, value: str | int | float | None) -> str:
        if value is None or isinstance(value, str):
            return value or ""
        return f"{value * _FORMS[self.kind].factor:.6g}"


@dataclass(frozen=True)
class Table:
    """Rows of values. `name` is that of its CSV file; the first column names the row."""

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]

    def markdown(self) -> str:
        """A heading, the caption and the table; intervals stand in brackets behind their mean."""
        head = [markdown_text(column.title) for column in self.columns]
        rule = ["---:" if column.is_number else "---" for column in self.columns]
        body = [[markdown_text(c.full(v)) for c, v in zip(self.columns, row, strict=True)] for row in self.rows]
        lines = ["| " + " | ".join(line) + " |" for line in (head, rule, *body)]
        return "\n".join([f"## {markdown_text(self.title)}", "", markdown_text(self.caption), "", *lines, ""])

    def csv(self) -> str:
        """One line a row; an interval takes four columns: mean, low, high and runs."""
        head = [field for column in self.columns for field in column.heads]
        rows = [[f for c, v in zip(self.columns, row, strict=True) for f in c.plain(v)] for row in self.rows]
        return csv_text([head, *rows])


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    """Rows as CSV, lines ending with LF."""
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerows([inert(cell) for cell in row] for row in rows)
    return target.getvalue()


def inert(cell: str) -> str:
    """A cell; with an apostrophe before it if a spreadsheet would run it as a formula, such as =HYPERLINK(...).

    Numbers stay as they are.
    """
    cell = visible(cell)
    if not cell.lstrip().startswith(_FORMULA) or _is_number(cell):
        return cell
    return f"'{cell}"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is, in one line of a table."""
    return " ".join(text.translate(_MARKDOWN).split())
