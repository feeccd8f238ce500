"""`medseqft audit`: who did what in a workspace, and whether anything was altered behind its back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from MedSeqFTLib.commands.console import (
    DAMAGED,
    HERE,
    JsonOption,
    WorkspaceOption,
    bytes_bar,
    open_workspace,
    print_json,
    print_table,
    say,
    told_damage,
)

if TYPE_CHECKING:
    from MedSeqFTLib.workspace.audit import AuditEntry

app = typer.Typer(help="Who did what in a workspace, when and why; whether anything was altered.")


@app.command("list")
def list_entries(
    last: Annotated[int, typer.Option(min=1, help="So many of the newest lines.")] = 50,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Show the newest lines of the audit log. Exit code 1 if a line is damaged."""
    opened = open_workspace(workspace)
    from MedSeqFTLib.workspace.audit import unaltered_entries
    from MedSeqFTLib.workspace.damage import shown_only

    with shown_only() as left_out:
        found = unaltered_entries(opened)[-last:]
    if as_json:
        print_json(found)
    else:
        _print_entries(found)
    return told_damage(left_out)


def _print_entries(found: list[AuditEntry]) -> None:
    rows = [(str(e.number), f"{e.when:%Y-%m-%d %H:%M}", e.who, e.act, e.subject, e.reason) for e in found]
    print_table(("No.", "When (UTC)", "Who", "What", "On what", "Why"), rows, "The audit log is empty.")


@app.command()
def verify(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> int:
    """Check every line, document, image, segmentation and weight file. Exit code 1 if anything was altered."""
    opened = open_workspace(workspace)
    from MedSeqFTLib.workspace.audit_check import verify as check

    with bytes_bar() as bar:
        line = bar.add_task("files", total=None)
        result = check(opened, lambda done, total: bar.update(line, completed=done, total=total))
    if as_json:
        print_json({"lines": result.lines, "head": result.head, "problems": result.problems})
    else:
        for problem in result.problems:
            say(problem)
        say(_summary(len(result.problems), result.lines, result.head))
    return DAMAGED if result.problems else 0


def _summary(problems: int, lines: int, head: str) -> str:
    if problems:
        return f"{problems} problems. Restore what is damaged from a backup; the audit log has {lines} lines."
    return f"Nothing was altered: {lines} lines, newest hash {head}. Note it elsewhere, and compare it next time."
