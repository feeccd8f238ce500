"""`medseqft models`: versions, their lineage, and which of them is current."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from MedSeqFTLib.commands import foundation
from MedSeqFTLib.commands.console import (
    HERE,
    ByOption,
    JsonOption,
    ReasonOption,
    WorkspaceOption,
    open_workspace,
    print_facts,
    print_json,
    print_table,
    say,
    told_damage,
)
from MedSeqFTLib.workspace.person import person

if TYPE_CHECKING:
    from MedSeqFTLib.workspace.schema import ModelVersion, Pointers
    from MedSeqFTLib.workspace.workspace import Workspace

app = typer.Typer(help="Model versions: lineage, promotion, rollback; foundation models to begin with.")
app.command("foundation")(foundation.list_foundation)
app.command("show-foundation")(foundation.show_foundation)
app.command("import-foundation")(foundation.import_foundation)
app.command("export-foundation")(foundation.export_foundation)
Promotion = Literal["better", "person", "never"]
_POLICIES: dict[str, str] = {
    "better": "by itself only what is shown to be better; a person may promote anything, with a reason",
    "person": "nothing by itself; a person promotes, with a reason",
    "never": "nothing is promoted; a rollback is possible",
}
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="A version, such as M3.")]


@app.command("list")
def list_versions(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> int:
    """List the model versions, oldest first. Exit code 1 if one of them, or what tells which is current, is damaged."""
    from MedSeqFTLib.workspace.damage import read_or, shown_only
    from MedSeqFTLib.workspace.schema import Pointers

    opened = open_workspace(workspace)
    with shown_only() as left_out:
        versions, pointers = opened.versions(), read_or(opened.pointers, Pointers())
        chain = read_or(lambda: _chain(opened), None)
    if as_json:
        print_json([_document(version, pointers, chain) for version in versions])
    else:
        rows = [_row(version, pointers, chain) for version in versions]
        empty = "No model versions yet: medseqft adapt makes one"
        print_table(("Version", "Parent", "Task", "Train", "Validation", "Dice", "Current for", "Created"), rows, empty)
    return told_damage(left_out)


def _chain(workspace: Workspace) -> str | None:
    version = workspace.chain_version()
    return version.id if version else None


def _document(version: ModelVersion, pointers: Pointers, chain: str | None) -> dict[str, object]:
    current = [task for task, current in pointers.tasks.items() if current == version.id]
    return {**version.model_dump(mode="json"), "current_for": current, "is_chain": version.id == chain}


def _row(version: ModelVersion, pointers: Pointers, chain: str | None) -> tuple[object, ...]:
    return (
        version.id,
        version.parent,
        version.task or "(foundation)",
        len(version.train_cases),
        len(version.validation_cases),
        _own_dice(version),
        _current_text(version, pointers, chain),
        f"{version.created:%Y-%m-%d %H:%M}",
    )


def _own_dice(version: ModelVersion) -> str:
    """Held-out Dice of the version's own task, read per task."""
    own = [s.mean_dice for s in version.scores if s.task == version.task and s.reading == "per-task"]
    return _dice(own[0]) if own else ""


def _dice(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _current_text(version: ModelVersion, pointers: Pointers, chain: str | None) -> str:
    tasks = [task for task, current in pointers.tasks.items() if current == version.id]
    return ", ".join([*tasks, "next adaptation"] if version.id == chain else tasks)


@app.command()
def show(version: VersionArgument, workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Show a model version with its scores and settings."""
    opened = open_workspace(workspace)
    from MedSeqFTLib.workspace.pruned import pruned_files

    shown, pointers, chain = opened.version(version), opened.pointers(), _chain(opened)
    if as_json:
        folder = str(opened.version_folder(shown.id))
        pruned = bool(pruned_files(opened.version_folder(shown.id)))
        print_json({**_document(shown, pointers, chain), "folder": folder, "pruned": pruned})
        return
    print_facts(
        [
            ("Version", shown.id),
            ("Parent", shown.parent or "none"),
            ("Task", shown.task or "none: a foundation model"),
            ("Current for", _current_text(shown, pointers, chain) or "nothing"),
            ("Created", f"{shown.created:%Y-%m-%d %H:%M} UTC" + (f" by job {shown.job}" if shown.job else "")),
            ("Training cases", ", ".join(shown.train_cases) or "none"),
            ("Validation cases", ", ".join(shown.validation_cases) or "none"),
            *((f"Buffer of {task}", ", ".join(cases)) for task, cases in shown.buffers.items()),
            ("Note", shown.note),
            ("Weights", "pruned" if pruned_files(opened.version_folder(shown.id)) else "here"),
            ("Folder", opened.version_folder(shown.id)),
        ]
    )
    if shown.scores:
        rows = [(s.task, s.reading, s.version, len(s.cases), _dice(s.mean_dice)) for s in shown.scores]
        print_table(("Task", "Reading", "Measured", "Cases", "Dice"), rows, "")


@app.command()
def promote(
    version: VersionArgument,
    reason: ReasonOption = "",
    by: ByOption = "",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Make a version current for its task, and the start of the next adaptation; needs a reason against the verdict."""
    opened = open_workspace(workspace)
    from MedSeqFTLib.learning.promotion import promote_by_hand

    pointers = promote_by_hand(opened, version, person(by), reason)
    if as_json:
        print_json(pointers)
        return
    move = pointers.history[-1]
    say(f"{move.after} is now current for {move.task} (before: {move.before or 'none'}).")


@app.command()
def policy(
    new: Annotated[Promotion | None, typer.Argument(metavar="[NEW]", help="better, person or never.")] = None,
    margin: Annotated[float | None, typer.Option(min=0, max=1, help="Dice that the own task may lose.")] = None,
    earlier_margin: Annotated[
        float | None, typer.Option(min=0, max=1, help="Dice that the one model may lose on an earlier task.")
    ] = None,
    reason: ReasonOption = "",
    by: ByOption = "",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show or change what may become current: by itself only what is better, by a person only, or nothing (never)."""
    opened = open_workspace(workspace)
    asked = {"promotion": new, "margin": margin, "earlier_margin": earlier_margin}
    if any(value is not None for value in asked.values()):
        opened.change_policy(opened.policy.changed(asked), person(by), reason)
    found = opened.policy
    if as_json:
        print_json(found)
        return
    margins = [("Margin", f"{found.margin:g} Dice"), ("Margin of earlier tasks", f"{found.earlier_margin:g} Dice")]
    print_facts([("Promotion", f"{found.promotion}: {_POLICIES[found.promotion]}"), *margins])


@app.command()
def rollback(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.")],
    reason: ReasonOption = "",
    by: ByOption = "",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Undo the last promotion of a task."""
    opened = open_workspace(workspace)
    opened.rollback(task, person(by), reason)
    pointers = opened.pointers()
    if as_json:
        print_json(pointers)
        return
    move = pointers.history[-1]
    say(f"{move.after or 'No version'} is now current for {move.task} (before: {move.before}).")
