"""`medseqft jobs`: background jobs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from MedSeqFTLib.commands.console import (
    HERE,
    JsonOption,
    WorkspaceOption,
    open_workspace,
    print_facts,
    print_json,
    print_table,
    say,
    told_damage,
)
from MedSeqFTLib.errors import InputError

if TYPE_CHECKING:
    from MedSeqFTLib.jobs.job import JobFolder
    from MedSeqFTLib.workspace.workspace import Workspace

app = typer.Typer(help="Background jobs: look, wait, cancel, resume.")
JobArgument = Annotated[
    str | None, typer.Argument(metavar="[JOB]", help="Id of the job; without it the running or latest one.")
]


@app.command("list")
def list_jobs(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> int:
    """List the jobs, oldest first. Exit code 1 if the record of one is damaged."""
    from MedSeqFTLib.commands.watching import job_document
    from MedSeqFTLib.jobs import control
    from MedSeqFTLib.workspace.damage import all_of, shown_only

    with shown_only() as left_out:
        folders = control.list_jobs(open_workspace(workspace))
        documents = all_of(partial(job_document, folder) for folder in folders if as_json)
        rows = all_of(partial(_row, folder) for folder in folders if not as_json)
    if as_json:
        print_json(documents)
    else:
        empty = "No jobs yet: medseqft adapt starts one"
        print_table(("Job", "Kind", "Task", "State", "Stage", "Version"), rows, empty)
    return told_damage(left_out)


def _row(folder: JobFolder) -> tuple[object, ...]:
    from MedSeqFTLib.jobs.events import last_event

    last = last_event(folder.events_path)
    stage = f"{last.stage} {last.step}/{last.total}" if last and last.stage and last.step is not None else ""
    return folder.id, folder.job.kind, folder.job.task, folder.state(), stage, last.version if last else ""


@app.command()
def show(job: JobArgument = None, workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Show what a job does or did."""
    from MedSeqFTLib.commands.watching import duration, job_document

    folder = _chosen(open_workspace(workspace), job)
    if as_json:
        print_json(job_document(folder))
        return
    progress = folder.progress()
    left = duration(progress.seconds_left) if progress.seconds_left is not None and folder.worker_lives() else None
    print_facts(
        [
            ("Job", folder.id),
            ("Kind", folder.job.kind),
            ("Task", folder.job.task or "none"),
            ("State", folder.state()),
            ("Created", f"{folder.job.created:%Y-%m-%d %H:%M} UTC"),
            ("Seed", folder.job.seed),
            *_known(
                ("Stage", f"{progress.stage}, step {progress.step} of {progress.total}" if progress.stage else None),
                ("Loss", f"{progress.loss:.4f}" if progress.loss is not None else None),
                ("Time left", left),
                ("Device", progress.device),
                ("Last message", progress.text),
                ("Version", progress.version),
                *(("Warning", text) for text in progress.warnings),
            ),
            ("Log", folder.log_path),
        ]
    )


def _known(*facts: tuple[str, str | None]) -> list[tuple[str, str | None]]:
    return [fact for fact in facts if fact[1]]


@app.command()
def watch(job: JobArgument = None, workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Wait for a job and show its progress. Ctrl-C stops the watching, not the job."""
    from MedSeqFTLib.commands.outcome import report_end

    opened = open_workspace(workspace)
    report_end(opened, _chosen(opened, job), as_json)


@app.command()
def cancel(
    job: JobArgument = None,
    grace: Annotated[float, typer.Option(min=0, help="Seconds to wait for it to stop before it is killed.")] = 10,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Stop a job. It can be resumed later."""
    from MedSeqFTLib.commands.watching import job_document
    from MedSeqFTLib.jobs import control

    folder = _chosen(open_workspace(workspace), job)
    state = control.cancel(folder, grace)
    if as_json:
        print_json(job_document(folder))
        return
    if state == "cancelled":
        say(f"Job {folder.id} is cancelled. Go on with it later: medseqft jobs resume {folder.id}")
    else:
        say(f"Job {folder.id} is {state}: it ended before it could be stopped.")


@app.command()
def resume(
    job: JobArgument = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and show the progress.")] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Go on with an interrupted, cancelled or failed job from its last checkpoint."""
    from MedSeqFTLib.commands.outcome import wait_or_leave
    from MedSeqFTLib.jobs import control
    from MedSeqFTLib.jobs.events import end_of_events

    opened = open_workspace(workspace)
    folder = _chosen(opened, job)
    offset = end_of_events(folder.events_path)
    control.resume(opened, folder.id)
    wait_or_leave(opened, folder, wait, as_json, offset)


def _chosen(workspace: Workspace, job: str | None) -> JobFolder:
    """The job of that id, or else the running one, or else the latest."""
    from MedSeqFTLib.jobs import control

    if job is not None:
        return control.job(workspace, job)
    folders = control.list_jobs(workspace)
    if not folders:
        raise InputError("The workspace has no job yet: medseqft adapt TASK starts one.")
    return control.running_job(workspace) or folders[-1]
