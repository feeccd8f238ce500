"""Starting each kind of job: what can be refused is refused before; the settings are settled. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.job import ACTIVE, Job, JobFolder, JobKind
from MedSeqFTLib.learning.errand_settings import AcceptSettings, ExportSettings, SegmentSettings
from MedSeqFTLib.learning.preflight import check_adaptable, version_for
from MedSeqFTLib.learning.settings import adapt_settings
from MedSeqFTLib.workspace.anonymity import name_for
from MedSeqFTLib.workspace.files import explain
from MedSeqFTLib.workspace.names import free_name
from MedSeqFTLib.workspace.person import person
from MedSeqFTLib.workspace.schema import Reading
from MedSeqFTLib.workspace.segmentations import segmentations
from MedSeqFTLib.workspace.workspace import Workspace


def start_adaptation(
    workspace: Workspace,
    task: str,
    preset: str = "balanced",
    changes: Mapping[str, str] | None = None,
    *,
    seed: int = 0,
    python: str | None = None,
    wait: bool = True,
) -> JobFolder:
    """Adapt the model to a task with its accepted cases.

    Args:
        changes: settings of MedSeqFTLib.learning.settings.AdaptSettings that differ from the preset, as texts.
        python, wait: see `control.start_job`.

    Raises:
        InputError: unusable settings, or nothing new to learn.
        WorkspaceBusy: another adaptation is running.
        JobError: the worker did not begin.
    """
    settings = adapt_settings(preset, dict(changes or {}))
    check_adaptable(workspace, task, settings)
    job = control.new_job(workspace, "adapt", task, settings.model_dump(mode="json"), seed)
    return control.start_job(workspace, job, python=python, wait=wait)


def start_segmentation(
    workspace: Workspace,
    task: str,
    inputs: Path,
    image: str,
    name: str,
    *,
    version: str | None = None,
    reading: Reading = "per-task",
    device: str = "auto",
    python: str | None = None,
) -> JobFolder:
    """Segment a volume; the result is a Segmentation.

    Args:
        inputs: a folder with the volume file `image`, see `control.start_job`; the file is moved away.
        name: of the volume; NAME-2 and so on if another volume has it.
        version: by default the task's current one.

    Raises:
        InputError: no version can segment the task, or unusable settings.
    """
    chosen = version_for(workspace, task, version, reading)
    name = name_for(workspace, name, "", "segmentation")
    fields = {"image": image, "name": name, "version": chosen.id, "reading": reading, "device": device}
    return _start_errand(workspace, "segment", task, _settings(SegmentSettings, fields), inputs, python)


def start_acceptance(
    workspace: Workspace,
    task: str,
    inputs: Path,
    image: str,
    segmentation: str,
    settings: Mapping[str, object],
    *,
    python: str | None = None,
) -> JobFolder:
    """Store a case, or correct a stored one; the result is a Case. The files are on the disk when this returns.

    Args:
        inputs: a folder with the files `image` and `segmentation`, see `control.start_job`; they are moved away.
        settings: the other fields of MedSeqFTLib.learning.errand_settings.AcceptSettings.

    Raises:
        InputError: the task is unknown, or the name is unusable or taken.
    """
    by = person(str(settings.get("by", "")))
    accept = _settings(AcceptSettings, {**settings, "image": image, "segmentation": segmentation, "by": by})
    assert isinstance(accept, AcceptSettings)
    _refuse_taken_name(workspace, task, accept)
    return _start_errand(workspace, "accept", task, accept, inputs, python)


def start_export(
    workspace: Workspace,
    task: str,
    names: list[str],
    folder: Path,
    *,
    version: str | None = None,
    overwrite: bool = False,
    python: str | None = None,
) -> JobFolder:
    """Write cases or segmented volumes for other programs, see MedSeqFTLib.imaging.exporting.

    Raises:
        InputError: the task is unknown, or nothing is named.
    """
    if not names:
        raise InputError(f"Nothing to export: name cases or segmented volumes of {task}.")
    fields = {"names": names, "folder": str(folder.absolute()), "version": version, "overwrite": overwrite}
    return _start_errand(workspace, "export", task, _settings(ExportSettings, fields), None, python)


def start_report(workspace: Workspace, *, python: str | None = None) -> JobFolder:
    """Write report.html of the workspace, see MedSeqFTLib.jobs.reporting."""
    return _start_errand(workspace, "report", None, None, None, python)


def taken_case_ids(workspace: Workspace, task: str) -> set[str]:
    """Names of the task's cases, and of those that are being stored."""
    return {case.id for case in workspace.cases(task)} | _being_stored(workspace, task)


def free_case_id(workspace: Workspace, task: str, name: str) -> str:
    """The first of NAME, NAME-2, NAME-3, ... that neither a case nor a segmented volume of the task has."""
    return free_name(name, taken_case_ids(workspace, task) | {record.name for record in segmentations(workspace, task)})


def _refuse_taken_name(workspace: Workspace, task: str, settings: AcceptSettings) -> None:
    name = name_for(workspace, settings.case_id, "", "case")
    storing = {other.casefold() for other in _being_stored(workspace, task)}
    if settings.revises and name.casefold() in storing:
        raise InputError(f"Case {name} of task {task} is being stored just now; wait until it is.")
    if not settings.revises and name.casefold() in {other.casefold() for other in taken_case_ids(workspace, task)}:
        raise InputError(f"Task {task} has a case {name} already, or is about to; choose another name.")


def _being_stored(workspace: Workspace, task: str) -> set[str]:
    jobs = (folder.job for folder in control.list_jobs(workspace) if _is_storing(folder, task))
    return {str(job.settings["case_id"]) for job in jobs}


def _is_storing(folder: JobFolder, task: str) -> bool:
    return folder.job.kind == "accept" and folder.job.task == task and folder.state() in ACTIVE


def _settings(kind: type[BaseModel], fields: Mapping[str, object]) -> BaseModel:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise InputError(f"Setting not usable: {explain(error)}.") from error


def _start_errand(
    workspace: Workspace,
    kind: JobKind,
    task: str | None,
    settings: BaseModel | None,
    inputs: Path | None,
    python: str | None,
) -> JobFolder:
    """Returns at once; an errand that does not begin becomes `failed` and can be resumed."""
    control.clear_errands(workspace)
    name = workspace.task(task).name if task is not None else None
    job: Job = control.new_job(workspace, kind, name, settings.model_dump(mode="json") if settings else None)
    return control.start_job(workspace, job, python=python, inputs=inputs, wait=False)
