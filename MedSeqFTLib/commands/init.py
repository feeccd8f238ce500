"""`medseqft init`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from MedSeqFTLib.commands.console import HERE, WorkspaceOption, say


def init(
    folder: Annotated[Path | None, typer.Argument(help="A new or empty folder.", show_default="the workspace")] = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Keep no names of files and patients; this never changes.")
    ] = False,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Make a new workspace."""
    from MedSeqFTLib.workspace.workspace import Workspace

    made = Workspace.create(workspace if folder is None else folder, anonymous=anonymous)
    say(f"The workspace {made.folder} is ready. Next: medseqft task add, or medseqft import-decathlon.")
