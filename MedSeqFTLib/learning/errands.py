"""The runners of errands (see errand_settings). Each stores what it made, and puts the record into result.json.

A killed errand is run again from its start. Its input is removed only when its result is safe, so that no edit is lost.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from MedSeqFTLib.errors import JobError, is_out_of_memory
from MedSeqFTLib.imaging.acceptance import Proposal, accept
from MedSeqFTLib.imaging.exporting import export
from MedSeqFTLib.imaging.geometry import Geometry, difference
from MedSeqFTLib.imaging.revision import revise
from MedSeqFTLib.imaging.segmentations import read_label_map
from MedSeqFTLib.imaging.volumes import pixel_sha256, read_volume
from MedSeqFTLib.learning.errand_settings import (
    INPUT_FOLDER,
    RESULT_FILE,
    AcceptSettings,
    ExportSettings,
    SegmentSettings,
)
from MedSeqFTLib.learning.progress import Job, Reporter
from MedSeqFTLib.learning.settings import of_job
from MedSeqFTLib.workspace.cases import SameScanError
from MedSeqFTLib.workspace.files import write_json
from MedSeqFTLib.workspace.schema import Case, Document, Segmentation, Task
from MedSeqFTLib.workspace.segmentations import segmentation_of, segmentation_path
from MedSeqFTLib.workspace.workspace import Workspace

if TYPE_CHECKING:
    from MedSeqFTLib.models.compute import Compute


def run_segmentation(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    """Segment a volume; on the processor if the graphics card's memory does not suffice. Raises as `segment_volume`.

    Raises JobError if memory does not suffice there either.
    """
    from MedSeqFTLib.learning.runtime import settle_compute

    if _is_finished(reporter.folder):
        return
    settings = of_job(SegmentSettings, job.settings)
    compute = settle_compute(settings, reporter.folder, reporter)
    record, reason = _segmented(workspace, job, settings, compute, reporter)
    if record is None and compute.device.type != "cpu":
        reporter.warning(f"Too little memory on {compute.device} ({reason}): computed on the processor, more slowly.")
        compute = settle_compute(settings.model_copy(update={"device": "cpu"}), reporter.folder, reporter)
        record, reason = _segmented(workspace, job, settings, compute, reporter)
    if record is None:
        raise JobError(f"Too little memory to segment this volume ({reason}): close other programs, then resume.")
    _finish(reporter.folder, record)


def _segmented(
    workspace: Workspace, job: Job, settings: SegmentSettings, compute: Compute, reporter: Reporter
) -> tuple[Segmentation | None, str]:
    """The record; None, and the reason, if memory ran out. What was computed until then is forgotten."""
    from MedSeqFTLib.learning.segmenting import segment_volume

    def progress(done: int, total: int) -> None:
        if done == 1:
            reporter.stage("segment", total)
        reporter.step(done)

    try:
        record = segment_volume(
            workspace,
            _task(job),
            reporter.folder / INPUT_FOLDER / settings.image,
            compute,
            version=settings.version,
            reading=settings.reading,
            name=settings.name,
            rename=True,
            overlap=settings.overlap,
            progress=progress,
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None, next(iter(str(error).splitlines()), "no memory left")
    return record, ""


def run_acceptance(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    """Store a case. Raises as `accept`."""
    if _is_finished(reporter.folder):
        return
    settings = of_job(AcceptSettings, job.settings)
    task, folder = workspace.task(_task(job)), reporter.folder / INPUT_FOLDER
    image, segmentation = folder / settings.image, folder / settings.segmentation
    reporter.stage("accept", 1)
    stored = _stored_before(workspace, task.name, settings.case_id, image, segmentation)
    case = stored or (_revised if settings.revises else _accepted)(workspace, task, image, segmentation, settings)
    _finish(reporter.folder, case)
    reporter.step(1)


def run_export(workspace: Workspace, job: Job, reporter: Reporter) -> None:
    """Write files for other programs. Raises as `export`."""
    settings = of_job(ExportSettings, job.settings)
    reporter.stage("export", len(settings.names))
    for done, name in enumerate(settings.names, start=1):
        export(workspace, _task(job), name, Path(settings.folder), settings.version, settings.overwrite)
        reporter.step(done)


def _task(job: Job) -> str:
    if job.task is None:
        raise ValueError("an errand needs a task")
    return job.task


def _accepted(workspace: Workspace, task: Task, image: Path, segmentation: Path, settings: AcceptSettings) -> Case:
    """A new case; or, where the scan is a case of this role already, a correction of it: nothing of it is lost."""
    try:
        return accept(
            workspace,
            task,
            image,
            segmentation,
            settings.role,
            case_id=settings.case_id,
            by=settings.by,
            proposal=_proposal(workspace, task.name, settings.proposal, image),
            seconds=settings.seconds,
            near_duplicate_reason=settings.near_duplicate_reason,
        )
    except SameScanError as same:
        if same.case.role is not settings.role:
            raise
        return _revised(workspace, task, image, segmentation, settings.model_copy(update={"case_id": same.case.id}))


def _revised(workspace: Workspace, task: Task, image: Path, segmentation: Path, settings: AcceptSettings) -> Case:
    return revise(workspace, task, settings.case_id, image, segmentation, by=settings.by, seconds=settings.seconds)


def _finish(folder: Path, record: Document) -> None:
    write_json(folder / RESULT_FILE, record)
    shutil.rmtree(folder / INPUT_FOLDER, ignore_errors=True)


def _is_finished(folder: Path) -> bool:
    """A worker that was killed just before its last word: its result is stored, its input may be gone."""
    return (folder / RESULT_FILE).is_file()


def _stored_before(workspace: Workspace, task: str, case_id: str, image: Path, segmentation: Path) -> Case | None:
    """The case that a killed worker had stored already: same name, same voxels, same segmentation."""
    if not workspace.case_folder(task, case_id).is_dir():
        return None
    case, labels = workspace.case(task, case_id), workspace.task(task).labels
    scan = read_volume(image)
    if pixel_sha256(scan) != case.pixel_sha256:
        return None
    ours = read_label_map(segmentation, labels, Geometry.of(scan))
    stored = read_label_map(workspace.segmentation_path(case), labels)
    same = ours.found == stored.found and np.array_equal(
        sitk.GetArrayViewFromImage(ours.image), sitk.GetArrayViewFromImage(stored.image)
    )
    return case if same else None


def _proposal(workspace: Workspace, task: str, sha256: str | None, image: Path) -> Proposal | None:
    """The stored segmentation that was corrected; without its file where the volume was moved in the meantime."""
    record = segmentation_of(workspace, task, sha256)
    if record is None:
        return None
    path = segmentation_path(workspace, record)
    moved = difference(Geometry.of_file(path), Geometry.of_file(image))
    return Proposal(record.version, None if moved else path, record.confidence)
