"""`medseqft pretrain`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from MedSeqFTLib.commands.console import HERE, JsonOption, WorkspaceOption, open_workspace
from MedSeqFTLib.errors import InputError


def pretrain(
    recipe: Annotated[Path, typer.Argument(metavar="CONFIG", help="A recipe: images and settings, as TOML.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that the recipe's files lie in.", show_default="the recipe's own"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same seed gives the same model on a CPU.")] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and show the progress.")] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Pre-train a foundation model on unlabelled images, in the background.

    The images are read where they lie and never changed. A job that was stopped goes on with 'medseqft jobs resume'.
    """
    from MedSeqFTLib.commands.outcome import wait_or_leave
    from MedSeqFTLib.jobs import control
    from MedSeqFTLib.learning.recipe import read_recipe
    from MedSeqFTLib.learning.settings import ImageGroup

    opened = open_workspace(workspace)
    settings = read_recipe(recipe, data)
    if opened.info.anonymous and any(isinstance(group, ImageGroup) for group in settings.groups):
        raise InputError(
            "This workspace is anonymous, and a pre-training job keeps the paths of its images: pre-train in another "
            "workspace, then take the model along with 'models export-foundation' and 'models import-foundation'."
        )
    job = control.new_job(opened, "pretrain", None, settings.model_dump(mode="json"), seed)
    folder = control.start_job(opened, job)
    wait_or_leave(opened, folder, wait, as_json)
