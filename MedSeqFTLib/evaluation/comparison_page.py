"""A folder that shows a comparison: report.html, tables.md, a CSV file for each table, every case, and the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from MedSeqFTLib.evaluation.bootstrap import DRAWS
from MedSeqFTLib.evaluation.chart_style import Chart
from MedSeqFTLib.evaluation.comparison_charts import all_charts
from MedSeqFTLib.evaluation.comparison_tables import all_tables, cases_csv, unseen_cases_csv
from MedSeqFTLib.evaluation.continual import Analysis
from MedSeqFTLib.evaluation.findings import cautions, definitions, headline
from MedSeqFTLib.evaluation.report import page_environment
from MedSeqFTLib.evaluation.results import Comparison
from MedSeqFTLib.evaluation.tables import Column, Table, markdown_text
from MedSeqFTLib.workspace.files import storage_errors, write_bytes_atomically

PAGE = "report.html"
_NOT_ALWAYS = ("matrix-order-*.csv", "unseen*.csv", "pictures/*.png")


@dataclass(frozen=True)
class _Page:
    """What the template shows."""

    comparison: Comparison
    headline: list[str]
    cautions: list[str]
    main: Table
    keeps: list[str]
    tables: list[Table]
    charts: list[Chart]
    definitions: list[tuple[str, str]]
    files: list[tuple[str, str]]

    def tables_named(self, start: str) -> list[Table]:
        return [table for table in self.tables if table.name.startswith(start)]

    def charts_named(self, *starts: str) -> list[Chart]:
        return [chart for chart in self.charts if chart.name.startswith(starts)]


def write_comparison(comparison: Comparison, folder: Path, draws: int = DRAWS) -> Path:
    """Write everything that a comparison shows into a folder and return the path of its page.

    Each file appears whole or not at all, the page last. Files of an earlier writing are replaced; those that only
    another comparison has are removed, since they would look like this one's.

    Args:
        draws: of the bootstrap.

    Raises:
        StorageError: something cannot be written, for instance because the disk is full.
    """
    analysis = Analysis(comparison, draws)
    tables, charts = all_tables(analysis), all_charts(analysis)
    files = {
        "tables.md": _markdown(analysis, tables).encode(),
        **{f"{table.name}.csv": table.csv().encode() for table in tables},
        "cases.csv": cases_csv(analysis).encode(),
        **({"unseen-cases.csv": unseen_cases_csv(analysis).encode()} if comparison.transfers else {}),
        **{f"pictures/{chart.name}.png": chart.light for chart in charts},
    }
    files[PAGE] = _html(analysis, tables, charts, list(files)).encode()
    with storage_errors(folder):
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        for path in _left_over(folder, files):
            path.unlink()
    for name, content in files.items():
        write_bytes_atomically(folder / name, content)
    return folder / PAGE


def _left_over(folder: Path, files: Iterable[str]) -> list[Path]:
    """What another comparison has left, of the files that not all of them have."""
    present = [path for pattern in _NOT_ALWAYS for path in folder.glob(pattern)]
    return [path for path in present if path.relative_to(folder).as_posix() not in files]


def _markdown(analysis: Analysis, tables: Sequence[Table]) -> str:
    title = f"# {markdown_text(analysis.comparison.title)}"
    result = [f"{markdown_text(sentence)}\n" for sentence in headline(analysis)]
    notes = [f"- {markdown_text(note)}" for note in cautions(analysis)]
    return "\n".join([title, "", *result, *notes, *([""] if notes else []), *(table.markdown() for table in tables)])


def _html(analysis: Analysis, tables: list[Table], charts: list[Chart], names: Sequence[str]) -> str:
    environment = page_environment()
    environment.globals["column_groups"] = _column_groups
    main, keeps = _without(tables[0], "Keeps")
    page = _Page(
        comparison=analysis.comparison,
        headline=headline(analysis),
        cautions=cautions(analysis),
        main=main,
        keeps=keeps,
        tables=tables[1:],
        charts=charts,
        definitions=definitions(analysis.comparison),
        files=[(_what(name), name) for name in names],
    )
    return environment.get_template("comparison.html.j2").render(page=page)


def _column_groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """The headings above neighbouring columns, and how many columns each spans."""
    return [(group, len(list(members))) for group, members in groupby(columns, key=lambda column: column.group)]


def _without(table: Table, name: str) -> tuple[Table, list[str]]:
    """The table without one column, and the texts of that column."""
    place = [column.name for column in table.columns].index(name)
    columns = table.columns[:place] + table.columns[place + 1 :]
    rows = tuple(row[:place] + row[place + 1 :] for row in table.rows)
    return replace(table, columns=columns, rows=rows), [str(row[place]) for row in table.rows]


def _what(name: str) -> str:
    if name.startswith("pictures/"):
        return "Picture"
    known = {"tables.md": "All tables", "cases.csv": "Every case", "unseen-cases.csv": "Every case of unseen tasks"}
    return known.get(name, "Table")
