"""`medseqft case`: images with their reference segmentations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from MedSeqFTLib.commands.console import (
    HERE,
    ByOption,
    JsonOption,
    WorkspaceOption,
    open_workspace,
    print_facts,
    print_json,
    print_table,
    say,
    told_damage,
    warn,
)
from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.person import person

if TYPE_CHECKING:
    from MedSeqFTLib.imaging.acceptance import Proposal
    from MedSeqFTLib.workspace.schema import Case
    from MedSeqFTLib.workspace.workspace import Workspace

app = typer.Typer(help="Cases: images with their reference segmentations.")
RoleChoice = Literal["train", "validation"]
NearDuplicateOption = Annotated[
    str,
    typer.Option(
        "--allow-near-duplicate",
        metavar="REASON",
        help="Why a scan is another one than that of the other role it is like.",
    ),
]
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.")]


@app.command()
def add(
    task: TaskArgument,
    image: Annotated[Path, typer.Option(help="Volume file, or folder with one DICOM series.")],
    segmentation: Annotated[Path, typer.Option(help=".seg.nrrd, or a label map with the task's values.")],
    role: Annotated[RoleChoice, typer.Option(help="What the case is for; a role never changes.")],
    case_id: Annotated[
        str | None, typer.Option("--id", help="Name of the case.", show_default="the image's name")
    ] = None,
    by: ByOption = "",
    proposed_by: Annotated[str | None, typer.Option(help="The version whose proposal was corrected.")] = None,
    proposal: Annotated[Path | None, typer.Option(help="What that version proposed.")] = None,
    near_duplicate_reason: NearDuplicateOption = "",
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Accept an image with its segmentation. Both are read and checked before anything is stored."""
    from MedSeqFTLib.imaging.acceptance import accept
    from MedSeqFTLib.workspace.schema import Role

    opened = open_workspace(workspace)
    case = accept(
        opened,
        opened.task(task),
        image,
        segmentation,
        Role(role),
        case_id=case_id,
        by=person(by),
        proposal=_proposal(opened, task, proposed_by, proposal),
        near_duplicate_reason=near_duplicate_reason,
    )
    warn_of_case(case)
    if as_json:
        print_json(case)
    else:
        say(f"Case {case.id} of task {case.task} is accepted as a {case.role.value} case.")


def _proposal(workspace: Workspace, task: str, version: str | None, path: Path | None) -> Proposal | None:
    from MedSeqFTLib.imaging.acceptance import Proposal
    from MedSeqFTLib.workspace.files import sha256_of
    from MedSeqFTLib.workspace.segmentations import segmentation_of

    if version is None:
        if path is not None:
            raise InputError("--proposal needs --proposed-by: which version proposed it?")
        return None
    record = segmentation_of(workspace, task, sha256_of(path)) if path is not None and path.is_file() else None
    return Proposal(version, path, record.confidence if record else None)


def warn_of_case(case: Case) -> None:
    """Tell how many voxels more than one segment claimed, and which stored case shows the same scan."""
    if case.overlap_voxels:
        warn(
            f"in case {case.id}, segments overlap in {case.overlap_voxels} voxels; "
            "there the later label of the task was taken."
        )
    if alike := case.near_duplicate:
        warn(
            f"case {case.id} shows the same scan as the {alike.role.value} case {alike.case} of task {alike.task} "
            f"(likeness {alike.likeness:.2f})."
        )
    if case.not_compared:
        warn(
            f"case {case.id} could not be compared with {case.not_compared} older cases yet, which may show the "
            "same scan; each case that is accepted makes some more of them comparable."
        )


@app.command("list")
def list_cases(
    task: Annotated[str | None, typer.Argument(metavar="[TASK]", help="Only cases of this task.")] = None,
    role: Annotated[RoleChoice | None, typer.Option(help="Only cases of this role.")] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> int:
    """List the cases. Exit code 1 if the record of one is damaged."""
    from MedSeqFTLib.workspace.damage import shown_only
    from MedSeqFTLib.workspace.schema import Role

    with shown_only() as left_out:
        cases = open_workspace(workspace).cases(task=task, role=Role(role) if role else None)
    if as_json:
        print_json(cases)
    else:
        _print_cases(cases)
    return told_damage(left_out)


def _print_cases(cases: list[Case]) -> None:
    rows = [(*_identity(case), _times(case.size), _times(case.spacing), _found(case)) for case in cases]
    empty = "No cases yet: medseqft case add, or medseqft import-decathlon"
    print_table(("Task", "Case", "Role", "Voxels", "mm", "Labels"), rows, empty)


def _identity(case: Case) -> tuple[str, str, str]:
    return case.task, case.id, case.role.value


def _times(values: tuple[float, ...]) -> str:
    return "x".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values)


def _found(case: Case) -> int:
    """How many labels occur."""
    return sum(voxels > 0 for voxels in case.label_voxels.values())


@app.command()
def show(
    task: TaskArgument,
    case_id: Annotated[str, typer.Argument(metavar="CASE", help="Name of the case.")],
    verify: Annotated[bool, typer.Option("--verify", help="Compare the files with their checksums.")] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show a case."""
    opened = open_workspace(workspace)
    case = opened.case(opened.task(task).name, case_id)
    if verify:
        opened.verify_case(case)
    if as_json:
        print_json({**case.model_dump(mode="json"), "folder": str(opened.case_folder(case.task, case.id))})
        return
    print_facts([*_facts(case), ("Folder", opened.case_folder(case.task, case.id))])
    print_table(("Label", "Voxels"), case.label_voxels.items(), "")


def _facts(case: Case) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = [
        ("Case", f"{case.id} of task {case.task}"),
        ("Role", case.role.value),
        ("Image", f"{case.source_image or 'name not kept'}, {_times(case.size)} voxels of {_times(case.spacing)} mm"),
        ("Segmentation", case.source_segmentation or "name not kept"),
        ("Accepted", f"{case.accepted:%Y-%m-%d %H:%M} UTC by {case.accepted_by or 'unknown'}"),
    ]
    if case.overlap_voxels:
        facts.append(("Overlap", f"{case.overlap_voxels} voxels"))
    if alike := case.near_duplicate:
        facts.append(
            ("Same scan as", f"{alike.role.value} case {alike.case} of task {alike.task}, {alike.likeness:.2f}")
        )
    if case.proposed_by:
        dice = "" if case.proposal_dice is None else f", Dice with the accepted one {case.proposal_dice:.3f}"
        facts.append(("Proposed by", case.proposed_by + dice))
    return facts
