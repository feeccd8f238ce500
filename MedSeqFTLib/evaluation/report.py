"""report.html: what a run did to every task, as one file that needs nothing from outside and runs no script.

Fill the dataclasses and call `write_report`. All text is escaped; pictures and charts are inside the file.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from MedSeqFTLib import __version__
from MedSeqFTLib.errors import visible
from MedSeqFTLib.evaluation import charts, drift_page
from MedSeqFTLib.evaluation.bootstrap import SHARE
from MedSeqFTLib.evaluation.charts import LossPoint
from MedSeqFTLib.evaluation.drift import Drift
from MedSeqFTLib.workspace.files import write_bytes_atomically
from MedSeqFTLib.workspace.schema import Reading

Outcome = Literal["promoted", "waiting", "kept back", ""]

_TEMPLATES = Path(__file__).parent / "templates"
_READINGS: dict[Reading, tuple[str, str]] = {
    "per-task": ("Each task by its own model", "What a user of each task gets."),
    "single-model": (
        "All tasks by one model",
        "The newest model with the heads of all tasks; here forgetting would show.",
    ),
}


@dataclass(frozen=True)
class Picture:
    """A PNG. `alt` is for readers who cannot see it."""

    png: bytes
    caption: str
    alt: str


@dataclass(frozen=True)
class DiceRow:
    """Mean Dice of one label over held-out cases, before and after a stage; None where there was nothing to measure."""

    reading: Reading
    task: str
    label: str
    before: float | None
    after: float | None
    cases: int


@dataclass(frozen=True)
class SelectionRow:
    """A case in the selection of a buffer: mean pretext loss over `passes`, its 95 % interval, the decision and why."""

    case: str
    loss: float
    interval: tuple[float, float]
    passes: int
    kept: bool
    reason: str = ""
    tie: bool = False  # too close to the border to be decided surely


@dataclass(frozen=True)
class StageSection:
    """One adaptation.

    `text` is split into paragraphs at blank lines; `verdict` says in a sentence why the outcome; `buffer_text` says how
    the buffer was chosen. `losses` are, by name of the stage's part, (step, {loss name: value}); `judgements` of the
    gate, by reading and task, for those that decide.
    """

    task: str
    version: str
    text: str = ""
    outcome: Outcome = ""
    verdict: str = ""
    pictures: Sequence[Picture] = ()
    dice: Sequence[DiceRow] = ()
    judgements: Mapping[tuple[str, str], str] = field(default_factory=dict)
    losses: Mapping[str, Sequence[LossPoint]] = field(default_factory=dict)
    buffer: Sequence[SelectionRow] = ()
    buffer_text: str = ""


@dataclass(frozen=True)
class VersionRow:
    """A model version of the lineage, oldest first. `serves`: tasks for which it is current."""

    version: str
    parent: str | None
    task: str | None
    created: str
    mean_dice: float | None = None
    serves: Sequence[str] = ()
    note: str = ""


@dataclass(frozen=True)
class Report:
    """Everything that report.html shows. `notes` are cautions and stand above the results."""

    title: str
    subtitle: str = ""
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    sections: Sequence[StageSection] = ()
    drifts: Sequence[Drift] = ()  # of tasks
    lineage: Sequence[VersionRow] = ()
    files: Sequence[tuple[str, str]] = ()  # what it is, and its path


@dataclass(frozen=True)
class DiceGroup:
    """The rows of one task, and their mean when there are several labels."""

    task: str
    own: bool  # the task of this stage
    rows: tuple[DiceRow, ...]
    mean: DiceRow | None
    judgement: str = ""  # of the gate

    @property
    def summary(self) -> DiceRow:
        """The mean, or the only row."""
        return self.mean or self.rows[0]


@dataclass(frozen=True)
class DiceTable:
    """One reading of a stage, ready for the page; `low` is where the axis of the dots begins."""

    title: str
    meaning: str
    low: float
    groups: tuple[DiceGroup, ...]


def write_report(report: Report, path: Path) -> Path:
    """Write the report as one UTF-8 file and return its path. Raises StorageError when it cannot be written."""
    write_bytes_atomically(Path(path), render_report(report).encode("utf-8", "backslashreplace"))
    return Path(path)


def render_report(report: Report) -> str:
    """The report as HTML text."""
    return page_environment().get_template("report.html.j2").render(report=report, overview=_overview(report.sections))


def dice_tables(section: StageSection) -> list[DiceTable]:
    """The Dice rows of a stage by reading and task: the stage's own task first, the others in the order given."""
    tables = []
    for reading, (title, meaning) in _READINGS.items():
        rows = [row for row in section.dice if row.reading == reading]
        tasks = sorted(dict.fromkeys(row.task for row in rows), key=lambda task: task != section.task)
        groups = tuple(_group(section, task, [row for row in rows if row.task == task]) for task in tasks)
        if groups:
            tables.append(DiceTable(title, meaning, _axis_start(rows), groups))
    return tables


def _group(section: StageSection, task: str, rows: list[DiceRow]) -> DiceGroup:
    mean = None
    if len(rows) > 1:
        before, after = _mean([row.before for row in rows]), _mean([row.after for row in rows])
        mean = DiceRow(rows[0].reading, task, "mean", before, after, max(row.cases for row in rows))
    judgement = section.judgements.get((rows[0].reading, task), "")
    return DiceGroup(task, task == section.task, tuple(rows), mean, judgement)


def _mean(values: Sequence[float | None]) -> float | None:
    """None when a label was not measured: a mean over other labels than before would not compare."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _axis_start(rows: Sequence[DiceRow]) -> float:
    """A tenth below the lowest Dice, so that differences can be seen; at most 0.9."""
    values = [value for row in rows for value in (row.before, row.after) if value is not None]
    return min(math.floor((min(values, default=0) - 0.02) * 10) / 10, 0.9) if min(values, default=0) > 0.12 else 0.0


@dataclass(frozen=True)
class OverviewRow:
    """One stage at a glance: its own task, and of all earlier tasks and both readings the one that lost most."""

    section: StageSection
    own: DiceRow | None
    worst: DiceRow | None


def _overview(sections: Sequence[StageSection]) -> list[OverviewRow]:
    return [_overview_row(section) for section in sections]


def _overview_row(section: StageSection) -> OverviewRow:
    groups = [group for table in dice_tables(section) for group in table.groups]
    own = next((group.summary for group in groups if group.own), None)
    earlier = [row for group in groups if not group.own for row in group.rows]
    compared = [row for row in earlier if row.before is not None and row.after is not None]
    return OverviewRow(section, own, min(compared, key=_gain, default=None))


def _gain(row: DiceRow) -> float:
    return (row.after or 0.0) - (row.before or 0.0)


def page_environment() -> Environment:
    """The templates with what every page uses: all text is escaped, a name that is missing is an error."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES, encoding="utf-8"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(dice=_dice, change=_change, data_url=_data_url, paragraphs=_paragraphs, plain=_plain)
    environment.globals.update(
        change_class=charts.change_class,
        dice_chart=lambda row, low: Markup(charts.dice_chart(row.before, row.after, low)),
        loss_chart=lambda stage, points, names: Markup(charts.loss_chart(stage, points, names)),
        loss_names=charts.loss_names,
        loss_style=charts.loss_style,
        last_losses=charts.last_losses,
        selection_chart=lambda rows: Markup(charts.selection_chart([_selection(row) for row in rows])),
        dice_tables=dice_tables,
        zip=zip,
        interval_share=SHARE,
        version_table=drift_page.version_table,
        version_chart=lambda drift: Markup(drift_page.version_chart(drift)),
        confidence_chart=lambda drift: Markup(drift_page.confidence_chart(drift)),
        software=f"MedSeqFT {__version__}",
    )
    return environment


def _shown(value: object) -> object:
    """Names come from files and people: signs that nobody sees, or that turn the text round, are spelled out."""
    return visible(value) if type(value) is str else value


def _selection(row: SelectionRow) -> charts.ScoredCase:
    return charts.ScoredCase(row.case, row.loss, row.interval, row.kept, row.tie)


def _dice(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.3f}"


def _change(row: DiceRow) -> str:
    """+0.031 with a real minus sign, from the decimals that are shown; a dash where there is nothing to compare."""
    if row.before is None or row.after is None:
        return "\u2013"
    return f"{round(row.after, 3) - round(row.before, 3):+.3f}".replace("-", "\u2212").replace("+0.000", "0.000")


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _plain(name: str) -> str:
    return name.replace("_", " ")
