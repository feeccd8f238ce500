"""Handing a segmentation to other programs: .seg.nrrd, a plain label map and a JSON file that explains its values."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import Field

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.segmentations import SEG_NRRD, read_label_map, write_label_map
from MedSeqFTLib.workspace.files import atomic_path, write_json
from MedSeqFTLib.workspace.outside import staging_in
from MedSeqFTLib.workspace.schema import Case, Document, Label, Name, Segmentation, now
from MedSeqFTLib.workspace.segmentations import segmentations, verify_segmentation
from MedSeqFTLib.workspace.workspace import Workspace

LABEL_MAP = ".labels.nrrd"
SIDECAR = ".json"


class Exported(Document):
    """NAME.json beside the exported files: what the label values mean and where the segmentation comes from."""

    task: Name
    name: Name
    labels: tuple[Label, ...]
    origin: str  # "accepted by a person" or "proposed by a model version"
    version: Name | None  # that proposed it; None: drawn without a proposal, or not known
    source_image: str
    exported: str = Field(default_factory=lambda: now().isoformat())


def export(
    workspace: Workspace, task: str, name: str, folder: Path, version: str | None = None, overwrite: bool = False
) -> list[Path]:
    """Write NAME.seg.nrrd, NAME.labels.nrrd and NAME.json of a case or of a segmented volume into a folder.

    An accepted case comes before what a version proposed for a volume of that name; of several proposals the newest is
    taken. `version` asks for a certain proposal.

    Raises:
        InputError: there is nothing of that name, or a file exists and `overwrite` is not set.
        WorkspaceError: what is stored is damaged.
        StorageError: a file cannot be written.
    """
    labels = workspace.task(task).labels
    source, record = _source(workspace, task, name, version)
    targets = exported_files(name, folder)
    existing = [path for path in targets if path.exists()]
    if existing and not overwrite:
        raise InputError(f"{existing[0]} exists already; choose another --folder, or allow it with --overwrite.")
    label_map = read_label_map(source, labels, may_be_empty=True).image
    with staging_in(folder) as staging:
        with atomic_path(targets[0], staging) as temporary:
            shutil.copyfile(source, temporary)
        write_label_map(label_map, targets[1], staging)
        write_json(targets[2], _sidecar(task, name, labels, record), staging)
    return targets


def exported_files(name: str, folder: Path) -> list[Path]:
    """What `export` writes."""
    return [folder / f"{name}{ending}" for ending in (SEG_NRRD, LABEL_MAP, SIDECAR)]


def exportable(workspace: Workspace, task: str) -> list[str]:
    """Names of all accepted cases and segmented volumes of a task."""
    cases, records = workspace.cases(task), segmentations(workspace, task)
    names = workspace.remembered.derived(
        ("exportable", task), lambda: sorted({case.id for case in cases} | {record.name for record in records})
    )
    return list(names)


def _source(workspace: Workspace, task: str, name: str, version: str | None) -> tuple[Path, Case | Segmentation]:
    case = workspace.case(task, name) if workspace.case_folder(task, name).is_dir() else None
    if case is not None and version is None:
        workspace.verify_case(case)
        return workspace.segmentation_path(case), case
    found = [r for r in segmentations(workspace, task, name) if version in (None, r.version)]
    if not found:
        by = f" by {version}" if version else ""
        raise InputError(
            f"Task {task} has no case and no segmentation{by} named {name}; see 'case list', or segment it."
        )
    return verify_segmentation(workspace, found[-1]), found[-1]


def _sidecar(task: str, name: str, labels: tuple[Label, ...], record: Case | Segmentation) -> Exported:
    accepted = isinstance(record, Case)
    return Exported(
        task=task,
        name=name,
        labels=labels,
        origin="accepted by a person" if accepted else "proposed by a model version",
        version=record.proposed_by if isinstance(record, Case) else record.version,
        source_image=record.source_image,
    )
