"""`medseqft export`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from MedSeqFTLib.commands.console import HERE, JsonOption, WorkspaceOption, open_workspace, print_json, say
from MedSeqFTLib.errors import InputError


def export(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Cases or segmented volumes.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything of the task.")] = False,
    folder: Annotated[Path, typer.Option(help="Where to write; made if needed.")] = HERE,
    version: Annotated[str | None, typer.Option(help="What this version proposed.", show_default="the newest")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write segmentations as .seg.nrrd, as a label map .nrrd, and a JSON file that explains the values."""
    opened = open_workspace(workspace)
    from MedSeqFTLib.imaging import exporting

    known = exporting.exportable(opened, task)
    chosen = known if everything else list(names or ())
    if not chosen:
        raise InputError(f"Nothing to export: name cases or segmented volumes of {task}, or say --all.")
    files = [path for name in chosen for path in exporting.export(opened, task, name, folder, version, overwrite)]
    if as_json:
        print_json({"task": task, "files": [str(path) for path in files]})
        return
    for path in files:
        say(str(path))
