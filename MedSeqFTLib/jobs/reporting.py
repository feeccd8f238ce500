"""report.html of a workspace: every adaptation with its figures, and the lineage. Torch-free."""

from __future__ import annotations

from pathlib import Path

from MedSeqFTLib.evaluation.drift import Drift, drift
from MedSeqFTLib.evaluation.report import Report, write_report
from MedSeqFTLib.jobs.job import REPORT_FILE
from MedSeqFTLib.jobs.summary import lineage, stage_section
from MedSeqFTLib.learning.progress import Job, Reporter
from MedSeqFTLib.workspace.schema import ModelVersion, Role
from MedSeqFTLib.workspace.workspace import Workspace


def run_report(workspace: Workspace, _job: Job, reporter: Reporter) -> None:
    """The runner of "report" jobs. Raises StorageError if the file cannot be written."""
    write_workspace_report(workspace, reporter)


def write_workspace_report(workspace: Workspace, reporter: Reporter) -> Path:
    """Write the report anew. Raises WorkspaceError if a record is damaged, StorageError if it cannot be written."""
    adapted = [version for version in workspace.versions() if version.task is not None]
    reporter.stage("report", len(adapted))
    sections = []
    for done, version in enumerate(adapted, start=1):
        sections.append(stage_section(workspace, version, _what_was_learned(version)))
        reporter.step(done)
    tasks = [task.name for task in workspace.tasks()]
    report = Report(
        title=workspace.folder.name,
        subtitle=f"Tasks: {', '.join(tasks) or 'none yet'}",
        facts=_facts(workspace, adapted, tasks),
        notes=[] if adapted else ["No model has been adapted yet."],
        sections=sections,
        drifts=_drifts(workspace, tasks),
        lineage=lineage(workspace),
        files=[("Workspace", str(workspace.folder))],
    )
    return write_report(report, workspace.folder / REPORT_FILE)


def _drifts(workspace: Workspace, tasks: list[str]) -> list[Drift]:
    """Of the tasks for which anything was proposed."""
    found = [drift(workspace, task) for task in tasks]
    return [one for one in found if one.cases or one.warning]


def _what_was_learned(version: ModelVersion) -> str:
    cases = f"{len(version.train_cases)} training and {len(version.validation_cases)} held-out cases."
    return "\n\n".join(filter(None, (cases, version.note)))


def _facts(workspace: Workspace, adapted: list[ModelVersion], tasks: list[str]) -> list[tuple[str, str]]:
    facts = [(f"Cases of {task}", _cases(workspace, task)) for task in tasks]
    if adapted:
        last = adapted[-1]
        facts.append(("Computed on", str(last.settings.get("computed on", "not recorded"))))
        facts.append(("Software", ", ".join(f"{name} {version}" for name, version in last.software.items())))
    return facts


def _cases(workspace: Workspace, task: str) -> str:
    counts = {role: len(workspace.cases(task, role)) for role in Role}
    return f"{counts[Role.TRAIN]} for training, {counts[Role.VALIDATION]} held out"
