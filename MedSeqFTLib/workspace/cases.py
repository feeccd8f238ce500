"""Accepting a case: both of its files and its record appear together, or not at all.

A stored case may be corrected again. Its earlier segmentations stay where they are, under their names.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.audit import note
from MedSeqFTLib.workspace.files import atomic_path, check_sha256, new_folder_atomically, write_json
from MedSeqFTLib.workspace.names import checked_name, same_name
from MedSeqFTLib.workspace.schema import Case, Revision, Task

if TYPE_CHECKING:
    from MedSeqFTLib.workspace.workspace import Workspace

CASE_FILE = "case.json"
IMAGE_FILE = "image.nrrd"
SEGMENTATION_FILE = "segmentation.seg.nrrd"


class SameScanError(InputError):
    """The scan is in the task already, whatever its name: `case`."""

    def __init__(self, message: str, case: Case) -> None:
        super().__init__(message)
        self.case = case


def accept_case(workspace: Workspace, case: Case, image_file: Path, segmentation_file: Path, reason: str = "") -> Case:
    """Move two finished files (see Workspace.staging) into the workspace as one new case.

    Args:
        reason: for the audit log, where there is something to explain.

    Raises:
        SameScanError: the scan is in this task already, whatever its name.
        InputError: the name is unusable or taken, or the task lacks a label.
        WorkspaceError: the task is unknown, the workspace is in use, or a file differs from its checksum.
        StorageError: a write failed; the workspace is as it was before.
    """
    with workspace.lock():
        check_new_case(workspace, case)
        check_sha256(image_file, case.image_sha256)
        check_sha256(segmentation_file, case.segmentation_sha256)
        with new_folder_atomically(workspace.case_folder(case.task, case.id)) as folder:
            shutil.move(str(image_file), str(folder / IMAGE_FILE))
            shutil.move(str(segmentation_file), str(folder / SEGMENTATION_FILE))
            write_json(folder / CASE_FILE, case)
            written = {workspace.case_folder(case.task, case.id) / CASE_FILE: case}
            note(workspace, "case accepted", f"{case.task}/{case.id}", written, case.accepted_by, reason)
    return case


def revise_case(workspace: Workspace, case: Case, segmentation_file: Path) -> Case:
    """Store a new segmentation of a case; the one before becomes a revision. `case` describes the new one.

    The new file gets a name of its own, and case.json is replaced last: a killed process changes nothing, and whoever
    reads the earlier segmentation goes on reading it.

    Raises:
        InputError: there is no such case, or the task lacks a label.
        WorkspaceError: the workspace is in use, or the file differs from its checksum.
        StorageError: a write failed; the case is as it was before.
    """
    with workspace.lock():
        before = workspace.case(case.task, case.id)
        _refuse_unknown_labels(workspace.task(case.task), case)
        revised = case.model_copy(update={"role": before.role, "revisions": (*before.revisions, _revision(before))})
        check_sha256(segmentation_file, revised.segmentation_sha256)
        path = workspace.case_folder(case.task, case.id) / CASE_FILE
        cleared = path.parents[1]  # unlike the folders of thousands of cases: see clear_leftovers
        with atomic_path(workspace.segmentation_path(revised), cleared) as temporary:
            shutil.copyfile(segmentation_file, temporary)
        note(workspace, "case revised", f"{case.task}/{case.id}", {path: revised}, revised.accepted_by)
        write_json(path, revised, cleared)
    return revised


def segmentation_name(number: int) -> str:
    """The file name of a case's segmentation: the first is number 1."""
    return SEGMENTATION_FILE if number == 1 else f"segmentation-{number}.seg.nrrd"


def _revision(case: Case) -> Revision:
    return Revision(**case.model_dump(include=set(Revision.model_fields)))


def check_new_case(workspace: Workspace, case: Case) -> None:
    """Raise InputError if `case` cannot be added; changes nothing."""
    checked_name(case.id, "case")
    _refuse_unknown_labels(workspace.task(case.task), case)
    for existing in workspace.cases(task=case.task):
        _refuse_same_scan(existing, case)
        if same_name(existing.id, case.id):
            raise InputError(f"Task {case.task} has a case {existing.id} already; choose another id.")


def _refuse_unknown_labels(task: Task, case: Case) -> None:
    unknown = sorted(set(case.label_voxels) - {label.name for label in task.labels})
    if unknown:
        raise InputError(f"Case {case.id} has labels that task {task.name} does not know: {', '.join(unknown)}.")


def _refuse_same_scan(existing: Case, case: Case) -> None:
    if existing.pixel_sha256 != case.pixel_sha256:
        return
    known = f"This scan is already the {existing.role.value} case {existing.id} of task {case.task}"
    if existing.role is not case.role:
        never = f"a role never changes, so it cannot become a {case.role.value} case"
        raise SameScanError(f"{known}; {never}.", existing)
    raise SameScanError(f"{known}.", existing)


def verify_case(workspace: Workspace, case: Case) -> None:
    """Check the checksums of a stored case.

    Raises:
        WorkspaceError: a file is missing or damaged; the message names it.
    """
    check_sha256(workspace.image_path(case), case.image_sha256)
    for path, sha256 in workspace.segmentation_paths(case):
        check_sha256(path, sha256)
