"""`medseqft segment`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from MedSeqFTLib.commands.computing import chosen_compute
from MedSeqFTLib.commands.console import (
    HERE,
    JsonOption,
    WorkspaceOption,
    open_workspace,
    print_json,
    print_table,
    progress_bar,
    say,
)

if TYPE_CHECKING:
    from MedSeqFTLib.workspace.schema import Reading


def segment(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Volume file, or folder with one DICOM series.")],
    name: Annotated[str | None, typer.Option(help="Name to keep it under.", show_default="the image's name")] = None,
    version: Annotated[str | None, typer.Option(help="Model version.", show_default="the current one")] = None,
    single_model: Annotated[bool, typer.Option("--single-model", help="Take the one model of all tasks.")] = False,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cuda, cuda:0, mps or cpu.")] = "auto",
    overlap: Annotated[float, typer.Option(min=0.0, max=0.75, help="Of neighbouring windows.")] = 0.5,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Segment a volume. The result is kept in the workspace; 'export' hands it on."""
    opened = open_workspace(workspace)
    from MedSeqFTLib.quick_import import import_monai

    import_monai()
    from MedSeqFTLib.learning.preflight import version_for
    from MedSeqFTLib.learning.segmenting import segment_volume
    from MedSeqFTLib.workspace.segmentations import segmentation_path

    reading: Reading = "single-model" if single_model else "per-task"
    version_for(opened, task, version, reading)
    compute = chosen_compute(device)
    with progress_bar() as bar:
        line = bar.add_task("segmenting", total=None)
        record = segment_volume(
            opened,
            task,
            image,
            compute,
            version=version,
            reading=reading,
            name=name,
            overlap=overlap,
            progress=lambda done, total: bar.update(line, completed=done, total=total),
        )
    path = segmentation_path(opened, record)
    if as_json:
        print_json({**record.model_dump(mode="json"), "file": str(path)})
        return
    print_table(("Label", "Voxels"), record.label_voxels.items(), "")
    say(f"{record.name} was segmented by {record.version}: {path}")
    say(f"Hand it on: medseqft export {task} {record.name} --folder FOLDER")
