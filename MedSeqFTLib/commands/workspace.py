"""`medseqft workspace`: backup, moving, checking and freeing space."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from MedSeqFTLib.commands.console import (
    DAMAGED,
    HERE,
    ByOption,
    JsonOption,
    WorkspaceOption,
    bytes_bar,
    open_workspace,
    print_json,
    print_table,
    say,
    warn,
)

if TYPE_CHECKING:
    from MedSeqFTLib.workspace.archive import Manifest

app = typer.Typer(help="Backup, moving, checking and freeing space of a whole workspace.")
_MANY = 20


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    with bytes_bar() as bar:
        line = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(line, completed=done, total=total)


@app.command("export")
def export_archive(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to write, FILE.zip.")],
    jobs: Annotated[bool, typer.Option("--jobs", help="With records and logs of jobs.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an archive of this name.")] = False,
    by: ByOption = "",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """Write everything that is needed into one archive. The workspace may be used meanwhile.

    Exit code 1 if something in the workspace was damaged already: the archive is written, and says so.
    """
    opened = open_workspace(workspace)
    from MedSeqFTLib.workspace.archive import export_workspace

    with _bar("archive") as progress:
        exported = export_workspace(opened, file, jobs=jobs, overwrite=overwrite, by=by, progress=progress)
    manifest = exported.manifest
    if as_json:
        print_json({"file": str(exported.path), "size": exported.size, **_facts(manifest)})
    else:
        say(f"{exported.path}: {len(manifest.files)} files, {readable(exported.size)}.")
        for reason, left in manifest.left_out.items():
            say(f"Left out: {reason} ({left.files} files, {readable(left.size)}).")
    _warn_of(manifest.problems, as_json)
    return DAMAGED if manifest.problems else 0


@app.command("import")
def import_archive(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What 'workspace export' wrote.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    accept_damaged: Annotated[
        bool, typer.Option("--accept-damaged", help="Also if it was damaged or altered when it was exported.")
    ] = False,
    by: ByOption = "",
    as_json: JsonOption = False,
) -> int:
    """Make a workspace of an archive. Every checksum and the audit log are verified; all or nothing is written."""
    from MedSeqFTLib.workspace.unpacking import import_workspace

    with _bar("files") as progress:
        imported = import_workspace(file, folder, accept_damaged=accept_damaged, by=by, progress=progress)
    where, manifest = imported.workspace.folder, imported.manifest
    if as_json:
        print_json({"folder": str(where), **_facts(manifest), "problems": imported.problems})
    else:
        say(f"The workspace {where} is as it was exported on {manifest.created:%Y-%m-%d %H:%M} UTC.")
        if manifest.audit_head:
            say(f"The newest line of its audit log had the hash {manifest.audit_head}.")
    _warn_of(imported.problems, as_json)
    return DAMAGED if imported.problems else 0


@app.command()
def verify(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> int:
    """Check every file against its checksum, and the audit log. Exit code 1 if anything is damaged or missing."""
    opened = open_workspace(workspace)
    from MedSeqFTLib.workspace.audit_check import verify_log
    from MedSeqFTLib.workspace.verification import verify_recorded

    log = verify_log(opened)
    with _bar("files") as progress:
        found = verify_recorded(opened, progress)
    problems = [*log.problems, *found.problems]
    facts = {"files": found.files, "size": found.size, "lines": log.lines, "head": log.head, "problems": problems}
    if as_json:
        print_json(facts)
    else:
        for problem in problems:
            say(problem)
        checked = f"{found.files} files ({readable(found.size)}) and {log.lines} lines of the audit log checked"
        say(f"{checked}: {len(problems) or 'no'} problem{'s' * (len(problems) != 1)}.")
    return DAMAGED if problems else 0


@app.command()
def prune(
    older_than: Annotated[int, typer.Option(min=0, help="Days after which a candidate's weights may go.")] = 30,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, it is only told.")] = False,
    by: ByOption = "",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Free space: weights of old candidates that were never promoted, caches, what finished jobs left.

    Cases, drafts, segmentations and versions that are or were current are never touched.
    """
    opened = open_workspace(workspace)
    from MedSeqFTLib.jobs.pruning import prune as do
    from MedSeqFTLib.jobs.pruning import would_prune

    older = timedelta(days=older_than)
    items = do(opened, older, by) if yes else would_prune(opened, older)
    size = sum(item.size for item in items)
    if as_json:
        rows = [{"kind": item.kind, "name": item.name, "why": item.why, "size": item.size} for item in items]
        print_json({"done": yes, "size": size, "items": rows})
        return
    table = [(item.kind, item.name, readable(item.size), item.why) for item in items]
    print_table(("What", "Which", "Size", "Why"), table, "Nothing to prune.")
    if items:
        say(f"{readable(size)} {'freed' if yes else 'would be freed; to do it: workspace prune --yes'}.")


def readable(size: int) -> str:
    """A number of bytes for people."""
    for unit, one in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= one:
            return f"{size / one:.1f} {unit}"
    return f"{size} bytes"


def _facts(manifest: Manifest) -> dict[str, object]:
    found = manifest.model_dump(mode="json", exclude={"files", "schema_version"})
    return {**found, "files": len(manifest.files)}


def _warn_of(problems: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        return
    for problem in problems[:_MANY]:
        warn(problem)
    if problems:
        warn(f"{len(problems)} problems in all; they are in the workspace itself, not made by this.")
