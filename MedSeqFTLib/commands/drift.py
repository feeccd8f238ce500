"""`medseqft drift`"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from MedSeqFTLib.commands.console import (
    HERE,
    JsonOption,
    WorkspaceOption,
    open_workspace,
    print_json,
    print_table,
    say,
    warn,
)

if TYPE_CHECKING:
    from MedSeqFTLib.evaluation.drift import Drift


def drift(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.")],
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a table with a line a case.")] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Are corrections shrinking version by version, and is the confidence worth anything?"""
    opened = open_workspace(workspace)
    from MedSeqFTLib.evaluation.drift import drift
    from MedSeqFTLib.evaluation.drift_page import case_table
    from MedSeqFTLib.workspace.files import write_bytes_atomically

    found = drift(opened, task)
    if csv is not None:
        write_bytes_atomically(csv, case_table(found).csv().encode("utf-8"))
    if as_json:
        print_json(_document(found))
    else:
        _tell(found)


def _tell(found: Drift) -> None:
    from MedSeqFTLib.evaluation.drift_page import version_table

    table = version_table(found)
    rows = [[column.full(value) for column, value in zip(table.columns, row, strict=True)] for row in table.rows]
    print_table([column.title for column in table.columns], rows, "No case was accepted from a proposal yet.")
    say(found.sentence)
    say(found.confidence)
    if found.apart:
        say(f"Not counted: {', '.join(f'{case} ({why})' for case, why in found.apart)}.")
    if found.warning:
        warn(found.warning)


def _document(found: Drift) -> dict[str, object]:
    cases = [
        {**asdict(case), "accepted": case.accepted.isoformat(), "correction": case.correction} for case in found.cases
    ]
    return {**asdict(found), "cases": cases}
