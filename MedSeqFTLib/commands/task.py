"""`medseqft task`: label sets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from MedSeqFTLib.commands.console import (
    HERE,
    JsonOption,
    WorkspaceOption,
    open_workspace,
    print_facts,
    print_json,
    print_table,
    say,
    told_damage,
)
from MedSeqFTLib.errors import InputError

if TYPE_CHECKING:
    from MedSeqFTLib.workspace.schema import Code, Intensity, Label, Task
    from MedSeqFTLib.workspace.workspace import Workspace

app = typer.Typer(help="Tasks: label sets with their modality.")

_LABEL = re.compile(r"(\d{1,3}):(.+?)(?::(#[0-9a-fA-F]{6}))?")
ModalityChoice = Literal["MR", "CT"]
_CODE = re.compile(r"(\d{1,3}):([^,]+),([^,]+),(.+)")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the new task.")],
    label: Annotated[list[str], typer.Option(help='"VALUE:NAME" or "VALUE:NAME:#rrggbb"; once for each label.')],
    modality: Annotated[ModalityChoice, typer.Option(case_sensitive=False, help="Kind of scan.")],
    code: Annotated[
        list[str] | None, typer.Option(help='"VALUE:SCHEME,CODE,MEANING", e.g. "1:SCT,279336000,Grey matter".')
    ] = None,
    window: Annotated[tuple[float, float] | None, typer.Option(help="CT: lowest and highest HU that matter.")] = None,
    description: Annotated[str, typer.Option(help="A line about the task.")] = "",
    workspace: WorkspaceOption = HERE,
) -> None:
    """Add a task. Label values are pinned: they never change afterwards."""
    from pydantic import ValidationError

    from MedSeqFTLib.workspace.files import explain
    from MedSeqFTLib.workspace.names import checked_name
    from MedSeqFTLib.workspace.schema import Modality, Task

    opened = open_workspace(workspace)
    kind = Modality(modality)
    try:
        task = Task(
            name=checked_name(name, "task"),
            description=description,
            modality=kind,
            labels=_labels(label, _codes(code or [])),
            intensity=_intensity(kind is Modality.CT, window),
        )
    except ValidationError as error:
        raise InputError(f"Task {name} cannot be used: {explain(error)}.") from error
    opened.add_task(task)
    say(f"Task {task.name} is added: {len(task.labels)} labels, {task.modality.value}.")


def _labels(texts: list[str], codes: dict[int, Code]) -> tuple[Label, ...]:
    from MedSeqFTLib.workspace.labels import color_from_hex, distinct_color
    from MedSeqFTLib.workspace.schema import Label

    labels = []
    for position, text in enumerate(texts):
        match = _LABEL.fullmatch(text.strip())
        if not match:
            raise InputError(f'Label {text!r} cannot be read; write it as "1:grey matter" or "1:grey matter:#ff8000".')
        color = color_from_hex(match[3]) if match[3] else distinct_color(position)
        labels.append(Label(value=int(match[1]), name=match[2].strip(), color=color, code=codes.get(int(match[1]))))
    if unknown := set(codes) - {label.value for label in labels}:
        raise InputError(f"--code names the label value {min(unknown)}, which no --label has.")
    return tuple(labels)


def _codes(texts: list[str]) -> dict[int, Code]:
    from MedSeqFTLib.workspace.schema import Code

    codes = {}
    for text in texts:
        match = _CODE.fullmatch(text.strip())
        if not match:
            raise InputError(f'Code {text!r} cannot be read; write it as "1:SCT,279336000,Grey matter".')
        if int(match[1]) in codes:
            raise InputError(f"--code is given twice for the label value {match[1]}.")
        codes[int(match[1])] = Code(scheme=match[2].strip(), value=match[3].strip(), meaning=match[4].strip())
    return codes


def _intensity(is_ct: bool, window: tuple[float, float] | None) -> Intensity:
    from MedSeqFTLib.workspace.schema import Percentile, Window

    if window is None:
        return Window() if is_ct else Percentile()
    if not is_ct:
        raise InputError("--window is in Hounsfield units, so it is only for CT.")
    return Window(low=window[0], high=window[1])


@app.command("list")
def list_tasks(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> int:
    """List the tasks. Exit code 1 if one of them, or what the list tells of it, is damaged."""
    from MedSeqFTLib.workspace.damage import shown_only

    opened = open_workspace(workspace)
    with shown_only() as left_out:
        tasks = opened.tasks()
        rows = [] if as_json else _rows(opened, tasks)
    if as_json:
        print_json(tasks)
    else:
        columns = ("Task", "Modality", "Labels", "Train", "Validation", "Model")
        print_table(columns, rows, "No tasks yet: medseqft task add")
    return told_damage(left_out)


def _rows(workspace: Workspace, tasks: list[Task]) -> list[tuple[object, ...]]:
    from MedSeqFTLib.workspace.damage import read_or
    from MedSeqFTLib.workspace.schema import Pointers

    current = read_or(workspace.pointers, Pointers()).tasks
    return [(*_summary(task), *_counts(workspace, task), current.get(task.name)) for task in tasks]


def _summary(task: Task) -> tuple[str, str, str]:
    return task.name, task.modality.value, ", ".join(label.name for label in task.labels)


def _counts(workspace: Workspace, task: Task) -> tuple[int, int]:
    """Training and validation cases."""
    roles = [case.role.value for case in workspace.cases(task=task.name)]
    return roles.count("train"), roles.count("validation")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of the task.")],
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show a task with its labels."""
    from MedSeqFTLib.learning.split import split_of
    from MedSeqFTLib.workspace.labels import hex_from_color

    opened = open_workspace(workspace)
    task = opened.task(name)
    if as_json:
        print_json(task)
        return
    rule = task.intensity
    unit = "HU" if rule.kind == "window" else "percentile"
    print_facts(
        [
            ("Task", task.name),
            ("Description", task.description),
            ("Modality", task.modality.value),
            ("Intensity", f"{rule.low:g} to {rule.high:g} {unit}"),
            ("Created", f"{task.created:%Y-%m-%d %H:%M} UTC"),
            ("Cases", "{} train, {} validation".format(*_counts(opened, task))),
            *((("Next cases", split),) if (split := split_of(opened, task.name)) else ()),
        ]
    )
    rows = [(label.value, label.name, hex_from_color(label.color), _code_text(label.code)) for label in task.labels]
    print_table(("Value", "Label", "Color", "Code"), rows, "")


def _code_text(code: Code | None) -> str:
    return f"{code.scheme} {code.value} {code.meaning}" if code else ""
