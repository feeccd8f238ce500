"""`medseqft models`: foundation models, from the catalogue into the workspace and from one workspace to another."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from MedSeqFTLib.commands.console import (
    HERE,
    JsonOption,
    WorkspaceOption,
    messages,
    open_workspace,
    print_facts,
    print_json,
    print_table,
    progress_bar,
    say,
    warn,
)
from MedSeqFTLib.errors import InputError

if TYPE_CHECKING:
    from MedSeqFTLib.learning.importing import Imported
    from MedSeqFTLib.models.availability import Choice, Machine
    from MedSeqFTLib.models.catalogue import FoundationModel, PublishedFile
    from MedSeqFTLib.workspace.workspace import Workspace

_MIB = 1 << 20
_WITHOUT_PRETEXT = "no: MDS cannot score cases; adapt with --set selection=mds-substitute, kmeans, random, all or none"


def list_foundation(as_json: JsonOption = False) -> None:
    """List the foundation models that can be imported, and how they fit this computer."""
    from MedSeqFTLib.models.availability import choices, this_machine
    from MedSeqFTLib.models.catalogue import catalogue

    models = catalogue().models
    if as_json:
        machine = this_machine()
        print_json([_document(model, machine) for model in models])
        return
    columns = ("Model", "Title", "Licence", "File", "Pretext head", "Memory", "Here", "How to get it")
    print_table(columns, (_row(choice) for choice in choices(models)), "The catalogue is empty")


def _document(model: FoundationModel, machine: Machine) -> dict[str, Any]:
    from MedSeqFTLib.models.availability import obstacles, where_to_get

    return {**model.model_dump(mode="json"), "obstacles": obstacles(model, machine), "get": where_to_get(model)}


def _row(choice: Choice) -> tuple[object, ...]:
    return (
        choice.model,
        choice.title,
        choice.licence,
        choice.size,
        "yes" if choice.pretext else "no",
        choice.memory,
        "; ".join(choice.obstacles) or "fits",
        choice.get,
    )


def show_foundation(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model of the catalogue, such as voco-b.")],
    as_json: JsonOption = False,
) -> None:
    """Show what is known of a foundation model: who made it, from what, and under which licence."""
    from MedSeqFTLib.models.availability import obstacles, size_text, this_machine, where_to_get
    from MedSeqFTLib.models.catalogue import catalogue

    shown, machine = catalogue().model(model), this_machine()
    if as_json:
        print_json(_document(shown, machine))
        return
    intensity = shown.input.intensity
    rules = (f"{modality.value}: {rule.kind} {rule.low:g}..{rule.high:g}" for modality, rule in intensity.items())
    spacing = shown.input.spacing
    print_facts(
        [
            ("Model", shown.id),
            ("Title", shown.title),
            ("Publisher", shown.publisher),
            ("Citation", shown.citation),
            ("Licence", " ".join(filter(None, (shown.licence, shown.licence_note)))),
            ("Page", shown.page),
            *(
                ("File", f"{file.name}, {size_text(file.size)}, SHA-256 {file.sha256 or 'unknown'}")
                for file in shown.files
            ),
            ("How to get it", where_to_get(shown)),
            ("Trained on", shown.trained_on),
            ("Network", shown.network.kind),
            ("Pretext head", shown.pretext.kind if shown.pretext else _WITHOUT_PRETEXT),
            ("Intensities", "; ".join(rules) or "any"),
            ("Voxel size", " x ".join(f"{side:g}" for side in spacing) + " mm" if spacing else "any"),
            ("Patch", " x ".join(map(str, shown.input.patch)) + " voxels (z, y, x)"),
            ("Memory", f"about {shown.memory.training:g} GiB to train, {shown.memory.prediction:g} GiB to segment"),
            ("This computer", "; ".join(obstacles(shown, machine)) or "fits"),
        ]
    )
    if shown.caution:
        warn(shown.caution)


def import_foundation(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A checkpoint file, or a model of the catalogue that comes along.")
    ],
    name: Annotated[
        str | None, typer.Option("--as", metavar="VERSION", help="Version to make.", show_default="the next free one")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="What the file holds.", show_default="recognised by its tensors")
    ] = None,
    accept_hash: Annotated[
        bool, typer.Option("--accept-hash", help="Take a file that differs from the published one.")
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="FILE is a model of the catalogue: fetch its file first.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Download without a question.")] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Import a published checkpoint file as a foundation model. Nothing in the file is run."""
    opened = open_workspace(workspace)
    with _checkpoint(opened, file, download, yes) as path:
        from MedSeqFTLib.learning import importing

        wanted = model or (file if download else None)
        with messages.status("") as status:
            imported = importing.import_foundation(
                opened,
                path,
                model=wanted,
                name=name,
                accept_hash=accept_hash,
                progress=lambda text: status.update(f"{path.name}: {text}"),
            )
    if as_json:
        print_json(_import_document(imported))
    else:
        _report(opened, imported)


@contextmanager
def _checkpoint(workspace: Workspace, file: str, download: bool, yes: bool) -> Iterator[Path]:
    """The file to import: given, shipped, or downloaded for the while."""
    from MedSeqFTLib.models.availability import shipped_file, where_to_get
    from MedSeqFTLib.models.catalogue import catalogue

    if download:
        with workspace.staging() as folder:
            yield _downloaded(catalogue().model(file), folder, yes)
        return
    entry = next((entry for entry in catalogue().models if entry.id == file), None)
    if entry is None or Path(file).exists():
        yield Path(file).expanduser()
        return
    shipped = shipped_file(entry)
    if shipped is None:
        raise InputError(f"{file} is a model of the catalogue, not a file: {where_to_get(entry)}.")
    yield shipped


def _downloaded(model: FoundationModel, folder: Path, yes: bool) -> Path:
    from MedSeqFTLib.models.downloading import download

    file = next((file for file in model.files if file.url), None)
    if file is None:
        raise InputError(f"{model.id} cannot be downloaded by itself: get its file from {model.page}.")
    _ask(model, file, yes)
    with progress_bar() as bar:
        task = bar.add_task(f"{file.name} (MiB)", total=None)

        def step(done: int, total: int) -> None:
            bar.update(task, completed=done // _MIB, total=total // _MIB or None)

        return download(file, folder, step)


def _ask(model: FoundationModel, file: PublishedFile, yes: bool) -> None:
    """Tell what would be downloaded and under which licence, and ask."""
    from MedSeqFTLib.models.availability import size_text

    lines = (
        model.title,
        f"File: {file.name}, {size_text(file.size)}",
        f"Licence: {model.licence} {model.licence_note}",
    )
    for line in (*lines, f"Page: {model.page}", f"From: {file.url}"):
        messages.print(line, markup=False, highlight=False, soft_wrap=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{file.name} is only downloaded after a yes: add --yes.")
    typer.confirm("Download it under this licence?", abort=True, err=True)


def _import_document(imported: Imported) -> dict[str, Any]:
    found = imported.coverage
    return {
        "version": imported.version.model_dump(mode="json"),
        "matched": len(found.matched),
        "dropped": dict(found.dropped),
        "unexpected": list(found.unexpected),
    }


def _report(workspace: Workspace, imported: Imported) -> None:
    from MedSeqFTLib.models.availability import size_text
    from MedSeqFTLib.models.recognition import some

    version, origin = imported.version, imported.version.origin
    assert origin is not None
    chain = workspace.chain_version()
    begins = chain is not None and chain.id == version.id
    print_facts(
        [
            ("Model", f"{origin.title} ({origin.model})"),
            ("Licence", origin.licence),
            ("File", f"{origin.file}, {size_text(origin.size)}, SHA-256 {origin.sha256}"),
            ("Tensors taken", origin.matched),
            ("Begin afresh", some(origin.fresh) or "none: the file has the whole network"),
            *(("Left out", text) for text in _left_out(imported)),
            ("Pretext head", "yes: MDS can score cases with it" if version.pretext else _WITHOUT_PRETEXT),
            ("Version", version.id),
            ("Next adaptation", "begins with it" if begins else f"still begins with {chain.id if chain else 'none'}"),
        ]
    )
    for text in _cautions(imported):
        warn(text)
    say(f"{origin.title} is foundation model {version.id} now.")


def _left_out(imported: Imported) -> list[str]:
    """Tensors of the file that were not taken, by reason."""
    from MedSeqFTLib.models.recognition import some

    found, unexpected = imported.coverage, imported.coverage.unexpected
    texts = [f"{count}: {reason}" for reason, count in Counter(found.dropped.values()).items()]
    return [*texts, *([f"{len(unexpected)} that nothing is known of: {some(unexpected)}"] if unexpected else [])]


def _cautions(imported: Imported) -> list[str]:
    entry = imported.entry
    if entry is None:
        return ["this model describes itself; MedSeqFT's catalogue does not know it."]
    lost = entry.pretext is not None and imported.version.pretext is None
    cautions = ["the file lacks the model's pretext head, or a part of it."] if lost else []
    return [*cautions, *([entry.caution] if entry.caution else [])]


def export_foundation(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A foundation model, such as M0.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, named .safetensors.")],
    title: Annotated[
        str | None, typer.Option(help="What the file calls the model.", show_default="as imported")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="The licence that the file states.", show_default="as imported")
    ] = None,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Write a foundation model as one file, which any workspace can import."""
    from MedSeqFTLib.learning import exporting

    written = exporting.export_foundation(open_workspace(workspace), version, file, title=title, licence=licence)
    say(f"{version} is written to {written}.")
