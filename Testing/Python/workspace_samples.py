"""Small workspaces for tests: real files, no images."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from MedSeqFTLib.workspace.cases import accept_case
from MedSeqFTLib.workspace.files import sha256_of
from MedSeqFTLib.workspace.networks import ResidualUNetDescription
from MedSeqFTLib.workspace.schema import Case, Label, Modality, ModelVersion, Percentile, Role, Task
from MedSeqFTLib.workspace.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


def a_task(name: str = "brain") -> Task:
    labels = (Label(value=1, name="grey matter", color=(1, 0, 0)), Label(value=2, name="white matter", color=(0, 1, 0)))
    return Task(name=name, modality=Modality.MR, labels=labels, intensity=Percentile())


def a_version(version_id: str, folder: Path, task: str | None = "brain", parent: str | None = None) -> ModelVersion:
    """A version that declares every file below `folder`."""
    files = {path.relative_to(folder).as_posix(): sha256_of(path) for path in folder.rglob("*") if path.is_file()}
    kind: Literal["foundation", "adapted"] = "foundation" if task is None else "adapted"
    return ModelVersion(
        id=version_id, kind=kind, parent=parent, task=task, job=None, network=ResidualUNetDescription(), files=files
    )


def weights_folder(folder: Path, size: int = 1000) -> Path:
    (folder / "adapter").mkdir(parents=True)
    (folder / "backbone.safetensors").write_bytes(os.urandom(size))
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"adapter")
    return folder


def add_case(workspace: Workspace, case_id: str, pixels: bytes, role: Role = Role.TRAIN, **changes: Any) -> Case:
    """Accept a case whose files are plain bytes."""
    with workspace.staging() as staging:
        image, segmentation = staging / "image.nrrd", staging / "segmentation.seg.nrrd"
        image.write_bytes(pixels)
        segmentation.write_bytes(b"segmentation of " + pixels)
        fields: dict[str, Any] = {
            "id": case_id,
            "task": "brain",
            "role": role,
            "source_image": f"{case_id}.nii.gz",
            "source_segmentation": f"{case_id}.seg.nrrd",
            "image_sha256": sha256_of(image),
            "segmentation_sha256": sha256_of(segmentation),
            "pixel_sha256": hashlib.sha256(pixels).hexdigest(),
            "size": (4, 5, 6),
            "spacing": (1.0, 1.0, 2.0),
            "label_voxels": {"grey matter": 7},
        }
        return accept_case(workspace, Case(**{**fields, **changes}), image, segmentation)


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder below `folder`, with checksums: equal before and after means nothing was changed."""
    paths = (path for path in sorted(folder.rglob("*")) if path.name != "workspace.lock")
    return {path.relative_to(folder).as_posix(): sha256_of(path) if path.is_file() else "folder" for path in paths}


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start Python on `code`, with this project and these helpers importable; its stdout and stderr are pipes."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "Testing" / "Python")])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def an_audited_workspace(folder: Path) -> Workspace:
    """A task, two cases, two versions, two promotions and a rollback."""
    workspace = Workspace.create(folder / "workspace")
    workspace.add_task(a_task())
    for number in (1, 2):
        add_case(workspace, f"case{number}", b"pixels %d" % number, accepted_by="reader")
        weights = weights_folder(folder / f"weights{number}")
        workspace.publish(a_version(f"M{number}", weights), weights)
        workspace.promote(f"M{number}", "reader", f"reason {number}")
    workspace.rollback("brain", "reader", "worse on last week's scans")
    return workspace
