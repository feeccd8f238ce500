"""`medseqft analyse`: the loss around the weights of versions, and how far these moved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
from MedSeqFTLib.errors import InputError, StorageError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from MedSeqFTLib.evaluation.landscape import Landscape
    from MedSeqFTLib.evaluation.variation import Variation

app = typer.Typer(help="Loss landscapes and parameter variation of model versions.")
VersionsArgument = Annotated[
    list[str],
    typer.Argument(metavar="VERSION[=NAME]", help="One to six versions, such as M1 M3; NAME is what pictures call it."),
]
_FOLDER = "New folder for pictures, tables and a JSON document."


@app.command()
def landscape(
    versions: VersionsArgument,
    task: Annotated[str, typer.Option(metavar="TASK", help="Whose loss is measured.")],
    reading: Annotated[
        Literal["per-task", "single-model"], typer.Option(help="Each version's model of the task, or its one model.")
    ] = "per-task",
    cases: Annotated[Literal["train", "validation"], typer.Option(help="Measure the loss on these.")] = "train",
    batches: Annotated[int, typer.Option(min=1, max=1000, help="Fixed batches of two patches.")] = 4,
    grid: Annotated[int, typer.Option(min=3, max=101, help="Points of the contour picture along a side; odd.")] = 13,
    radius: Annotated[
        float, typer.Option(help="Of the circle on which sharpness is measured; pictures reach twice as far.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the directions and the batches.")] = 0,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cuda, cuda:0, mps or cpu.")] = "auto",
    folder: Annotated[Path | None, typer.Option(help=_FOLDER, show_default="landscape-TASK")] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Measure the loss around the weights of versions, in the same random directions."""
    opened = open_workspace(workspace)
    target = _new_folder(folder or Path(f"landscape-{opened.task(task).name}"))
    from MedSeqFTLib.quick_import import import_monai

    import_monai()
    from MedSeqFTLib.evaluation.landscape import LandscapeSettings
    from MedSeqFTLib.learning.analysis import FixedBatches, analyse_landscape, save_landscapes
    from MedSeqFTLib.workspace.schema import Role

    names = _names(versions)
    settings = LandscapeSettings(seed=seed, radius=radius, extent=2 * radius, grid=grid, curve=2 * grid - 1)
    with _bars() as watch:
        found, about = analyse_landscape(
            opened,
            list(names),
            task,
            chosen_compute(device, "float32"),  # rounding to bfloat16 would roughen the loss
            reading=reading,
            data=FixedBatches(Role(cases), batches, seed),
            settings=settings,
            watch=watch,
        )
    found, about = _renamed(found, names), {**about, "versions": {name: version for version, name in names.items()}}
    files = save_landscapes(target, found, about)
    if not as_json:
        _print_landscapes(found)
    _report(target, files, about, _landscape_summary(found), as_json)


@app.command()
def variation(
    versions: VersionsArgument,
    model: Annotated[
        Literal["task", "chain"], typer.Option(help="The model of the version's task, or the one that is handed on.")
    ] = "task",
    reference: Annotated[
        str | None,
        typer.Option("--with", metavar="VERSION", help="Compare with this.", show_default="the foundation model"),
    ] = None,
    folder: Annotated[Path, typer.Option(help=_FOLDER)] = Path("variation"),
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Measure how far the parameters of versions moved, block by block, and in how many dimensions."""
    opened = open_workspace(workspace)
    target = _new_folder(folder)
    from MedSeqFTLib.quick_import import import_monai

    import_monai()
    from MedSeqFTLib.learning.analysis import analyse_variation, save_variations

    names = _names(versions)
    with _bars() as watch:
        found, about = analyse_variation(opened, list(names), model=model, reference=reference, watch=watch)
    found, about = _renamed(found, names), {**about, "versions": {name: version for version, name in names.items()}}
    files = save_variations(target, found, about)
    if not as_json:
        _print_variations(found)
    _report(target, files, about, _variation_summary(found), as_json)


def _names(versions: list[str]) -> dict[str, str]:
    """What each version is to be called, from VERSION or VERSION=NAME. Raises InputError if two are called alike."""
    pairs = [(version, name.strip() or version) for version, _, name in (given.partition("=") for given in versions)]
    for what, values in zip(("Version", "Name"), zip(*pairs, strict=True), strict=True):
        if repeated := [value for value in values if values.count(value) > 1]:
            raise InputError(f"{what} {repeated[0]} is named twice.")
    return dict(pairs)


def _renamed(found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[version]: one for version, one in found.items()}


def _new_folder(folder: Path) -> Path:
    """Refuse, before minutes are spent, a folder that cannot be made."""
    if folder.exists():
        raise InputError(f"{folder} exists already; name a new folder with --folder.")
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise StorageError(f"Cannot make {folder}: {parent} cannot be written.")
    return folder


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage as it comes."""
    with progress_bar() as bar:
        lines: dict[str, TaskID] = {}

        def watch(stage: str, done: int, total: int) -> None:
            if stage not in lines:
                lines[stage] = bar.add_task(stage, total=total)
            bar.update(lines[stage], completed=done)

        yield watch


def _report(
    folder: Path, files: list[str], about: Mapping[str, object], models: Mapping[str, object], as_json: bool
) -> None:
    """What the files hold in short, for --json, or else where they are."""
    if as_json:
        print_json({**about, "folder": str(folder), "files": files, "models": models})
    else:
        say(f"{', '.join(files)} in {folder}")


def _landscape_summary(found: Mapping[str, Landscape]) -> dict[str, object]:
    from MedSeqFTLib.evaluation.analysis_files import finite

    figures = ("loss", "sharpness", "spread")
    return finite({name: {figure: getattr(one, figure) for figure in figures} for name, one in found.items()})


def _print_landscapes(found: Mapping[str, Landscape]) -> None:
    rows = [(name, f"{one.loss:.4f}", f"{one.sharpness:.4f}", f"{one.spread:.4f}") for name, one in found.items()]
    print_table(("Version", "Loss", "Sharpness", "Spread"), rows, "")


def _variation_summary(found: Mapping[str, Variation]) -> dict[str, object]:
    return {name: asdict(variation.whole) for name, variation in found.items()}


def _print_variations(found: Mapping[str, Variation]) -> None:
    """Relative change of every block and of the whole."""
    columns = [[*variation.blocks, variation.whole] for variation in found.values()]
    rows = [
        (blocks[0].block, *("" if block.relative is None else f"{block.relative:.4f}" for block in blocks))
        for blocks in zip(*columns, strict=True)
    ]
    print_table(("Change of", *found), rows, "")
