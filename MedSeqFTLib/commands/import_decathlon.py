"""`medseqft import-decathlon`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from MedSeqFTLib.commands.case import NearDuplicateOption, warn_of_case
from MedSeqFTLib.commands.console import (
    HERE,
    ByOption,
    JsonOption,
    WorkspaceOption,
    open_workspace,
    print_json,
    progress_bar,
    say,
    warn,
)
from MedSeqFTLib.workspace.person import person

if TYPE_CHECKING:
    from MedSeqFTLib.imaging.decathlon import DataSet, Imported, Pair
    from MedSeqFTLib.workspace.schema import Role
    from MedSeqFTLib.workspace.workspace import Workspace


def import_decathlon(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with dataset.json, imagesTr and labelsTr.")],
    task: Annotated[str | None, typer.Option(help="Name of the task.", show_default="from dataset.json")] = None,
    train: Annotated[int | None, typer.Option(min=1, help="Training cases.", show_default="all that are left")] = None,
    validation: Annotated[int | None, typer.Option(min=1, help="Held-out cases.", show_default="a fifth")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    by: ByOption = "",
    near_duplicate_reason: NearDuplicateOption = "",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Import a task in the layout of the Medical Segmentation Decathlon, or in nnU-Net's raw layout (version 2).

    dataset.json tells which of the two it is: nnU-Net's has channel_names and file_ending. One channel, CT or MR.
    An import that was interrupted goes on where it stopped when it is run again.
    """
    opened = open_workspace(workspace)
    from MedSeqFTLib.imaging.decathlon import read_data_set, split

    data_set = read_data_set(folder, task)
    chosen = split(data_set.pairs, train, validation, seed)
    done = _import(opened, data_set, chosen, person(by), near_duplicate_reason)
    for imported in done:
        if imported.outcome == "twice":
            warn(f"left out {imported.note}")
        elif imported.case is not None and imported.outcome == "added":
            warn_of_case(imported.case)
    _report(data_set.task.name, done, as_json)


def _import(
    workspace: Workspace, data_set: DataSet, chosen: list[tuple[Pair, Role]], by: str, near_duplicate_reason: str
) -> list[Imported]:
    from MedSeqFTLib.imaging.decathlon import import_cases

    with progress_bar() as progress:
        cases = import_cases(workspace, data_set.task, chosen, by, near_duplicate_reason)
        return list(progress.track(cases, total=len(chosen), description=data_set.task.name))


def _report(task: str, done: list[Imported], as_json: bool) -> None:
    cases = [imported.case for imported in done if imported.case is not None]
    counts = {
        "train": sum(case.role.value == "train" for case in cases),
        "validation": sum(case.role.value == "validation" for case in cases),
        **{outcome: sum(imported.outcome == outcome for imported in done) for outcome in ("added", "known", "twice")},
    }
    if as_json:
        print_json({"task": task, **counts})
        return
    say(f"Task {task}: {counts['train']} training and {counts['validation']} validation cases ({counts['added']} new).")
