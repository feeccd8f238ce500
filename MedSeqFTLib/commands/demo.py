"""`medseqft demo`"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from MedSeqFTLib.commands.console import messages, print_table, say
from MedSeqFTLib.errors import InputError

if TYPE_CHECKING:
    from MedSeqFTLib.imaging.decathlon import DataSet


def demo(
    more: Annotated[list[Path] | None, typer.Argument(metavar="[DIR]...", hidden=True)] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="DIR...", help="Data sets in Decathlon layout, in the order of learning."),
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Where everything goes.", show_default="demo-output/TIME")] = None,
    train: Annotated[int, typer.Option(min=3, help="Training cases of each task.")] = 6,
    validation: Annotated[int, typer.Option(min=1, help="Held-out cases of each task.")] = 2,
    effort: Annotated[float, typer.Option(min=0.01, help="Factor on the training steps.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same demo.")] = 0,
) -> None:
    """Live through the whole loop: two tasks, one after the other, from the first case to the report.

    Without --data, the scans are semi-synthetic: made from the average brain that comes with nilearn.
    """
    base = _new_folder(folder)
    from MedSeqFTLib.quick_import import import_monai

    import_monai()
    from MedSeqFTLib.commands.walkthrough import Walkthrough

    given = [*(data or []), *(more or [])]
    data_sets = _given(given) if given else _semi_synthetic(base / "data", train + validation, seed)
    walk = Walkthrough(base, data_sets, train, validation, effort, seed, semi_synthetic=not given)
    report = walk.run()
    print_table(("Task", "Dice before", "Dice after", "At the end"), walk.summary(), "")
    say(f"Workspace: {walk.workspace.folder}")
    say(f"Exported:  {base / 'export'}")
    say(f"Report:    {report}")


def _new_folder(folder: Path | None) -> Path:
    base = (folder or Path("demo-output") / f"{datetime.now():%Y%m%d-%H%M%S}").absolute()
    if base.exists() and (not base.is_dir() or any(base.iterdir())):
        raise InputError(f"{base} exists and is not empty; choose another --folder.")
    return base


def _given(folders: list[Path]) -> list[DataSet]:
    from MedSeqFTLib.imaging.decathlon import read_data_set

    return [read_data_set(folder) for folder in folders]


def _semi_synthetic(folder: Path, cases: int, seed: int) -> list[DataSet]:
    from typing import get_args

    from MedSeqFTLib.imaging.cohort import Kind, make_cohort
    from MedSeqFTLib.imaging.decathlon import read_data_set

    data_sets = []
    for kind in get_args(Kind):
        with messages.status(f"Making semi-synthetic scans: {kind}"):
            data_sets.append(read_data_set(make_cohort(folder / kind, kind, cases, seed)))
    return data_sets
