"""What all commands share: options, tables, JSON, messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from MedSeqFTLib.errors import visible

if TYPE_CHECKING:
    from MedSeqFTLib.workspace.workspace import Workspace

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace", "-w", envvar="MEDSEQFT_WORKSPACE", help="Folder of the workspace.", show_default="here"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
ByOption = Annotated[str, typer.Option("--by", help="Who does this.", show_default="your login name")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the history.")]

HERE = Path()
out = Console()
messages = Console(stderr=True)
_ENDLESS = 10_000  # characters
_LONG = 500  # rows
DAMAGED = 1  # exit code


def open_workspace(folder: Path) -> Workspace:
    """Open the workspace that a command was given. Raises WorkspaceError."""
    from MedSeqFTLib.workspace.workspace import Workspace

    return Workspace.open(folder)


def print_json(document: Any) -> None:
    """Print a document (pydantic models, lists, dicts, plain values) as one JSON text on stdout."""
    typer.echo(json.dumps(_plain(document), indent=2))


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows as a table on stdout, or the line `empty` if there are none."""
    texts = [["" if cell is None else visible(str(cell)) for cell in row] for row in rows]
    if len(texts) > _LONG:
        _print_lines([list(columns), *texts])
        return
    table = Table(header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # a name that is cut off cannot be copied
    for row in texts:
        table.add_row(*map(Text, row))
    if table.row_count:
        _print(table)
    else:
        say(empty)


def _print_lines(rows: Sequence[Sequence[str]]) -> None:
    """The same in plain text: laying out thousands of rows for a terminal's width would take seconds."""
    rows = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(set_cell_size, row, widths)).rstrip() for row in rows)
    typer.echo("\n".join(lines))


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print pairs of a name and a value, one a line, on stdout."""
    table = Table.grid(padding=(0, 2))
    for name, value in facts:
        table.add_row(Text(name, style="bold"), Text("" if value is None else visible(str(value))))
    _print(table)


def _print(table: Table) -> None:
    """Fit a table to the terminal; in a pipe or a file, every row stays on one line."""
    console = out if out.is_terminal else Console(width=_ENDLESS)
    console.print(table)


def told_damage(left_out: Sequence[str]) -> int:
    """Name on stderr what a list leaves out because it is damaged, and what to do. Returns the exit code."""
    for problem in left_out:
        complain(problem)
    if not left_out:
        return 0
    complain(
        f"damaged and left out above: {len(left_out)}. Restore what is named from a backup (medseqft workspace import "
        "unpacks what workspace export wrote); medseqft audit verify tells what else is damaged."
    )
    return DAMAGED


def progress_bar() -> Progress:
    """A bar with count and remaining time on stderr; silent where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=messages, disable=not messages.is_terminal, transient=True)


def bytes_bar() -> Progress:
    """As `progress_bar`, for bytes: how many, how fast, how long still."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=messages, disable=not messages.is_terminal, transient=True)


def say(text: str) -> None:
    """Print a line on stdout."""
    out.print(Text(visible(text)), soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning line on stderr."""
    messages.print(Text(f"Warning: {visible(text)}", style="yellow"), soft_wrap=True)


def complain(text: str) -> None:
    """Print an error line on stderr, and below it what a log said, if that follows in `text`."""
    line, _, log = visible(text).strip().partition("\n")
    messages.print(Text(f"Error: {' '.join(line.split())}", style="red"), soft_wrap=True)
    if log:
        messages.print(Text(log, style="dim"), soft_wrap=True)
