"""Readers of JSON and TOML: data sets, the documents of a workspace, jobs, the audit log, recipes and benchmarks."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import SimpleITK as sitk
from mutations import mutated_archive, mutated_json, mutated_json_lines, mutated_lines
from samples import Reader, Sample, files_below

from MedSeqFTLib.evaluation.report import Report, render_report
from MedSeqFTLib.imaging.decathlon import read_data_set
from MedSeqFTLib.imaging.exporting import Exported
from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.events import Event, EventWriter
from MedSeqFTLib.jobs.job import Job, JobFolder
from MedSeqFTLib.jobs.summary import lineage, stage_section
from MedSeqFTLib.learning.benchmark.config import read_config
from MedSeqFTLib.learning.recipe import read_recipe
from MedSeqFTLib.workspace import audit, audit_check, drafts, segmentations, worklist
from MedSeqFTLib.workspace.archive import MANIFEST, export_workspace
from MedSeqFTLib.workspace.cases import accept_case
from MedSeqFTLib.workspace.files import read_json, sha256_of, write_json
from MedSeqFTLib.workspace.networks import ResidualUNetDescription
from MedSeqFTLib.workspace.schema import (
    Case,
    CaseScore,
    Label,
    Modality,
    ModelVersion,
    Percentile,
    Role,
    Segmentation,
    Task,
    TaskPlan,
    TaskScores,
)
from MedSeqFTLib.workspace.unpacking import import_workspace
from MedSeqFTLib.workspace.workspace import Workspace

RESOURCES = Path(__file__).resolve().parents[2] / "Resources"
_LABELS = (Label(value=1, name="grey", color=(1, 0, 0)), Label(value=2, name="white", color=(0, 1, 0)))
_SHA = "0" * 64


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((2, 2, 2), np.uint8)), str(path))


def _decathlon(folder: Path) -> Sequence[Sample]:
    for name in ("one", "two"):
        _image(folder / "imagesTr" / f"{name}.nii.gz")
        _image(folder / "labelsTr" / f"{name}.nii.gz")
    training = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("one", "two")]
    described = {"name": "Liver", "description": "a", "modality": {"0": "CT"}, "numTraining": 2}
    document = {**described, "labels": {"0": "background", "1": "liver", "2": "cancer"}, "training": training}
    (folder / "dataset.json").write_text(json.dumps(document), encoding="utf-8")
    return [Sample(files_below(folder), ("dataset.json",), mutated_json)]


def _nnunet(folder: Path) -> Sequence[Sample]:
    for name in ("one", "two"):
        _image(folder / "imagesTr" / f"{name}_0000.nii.gz")
        _image(folder / "labelsTr" / f"{name}.nii.gz")
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
    listed = {n: {"images": [f"imagesTr/{n}_0000.nii.gz"], "label": f"labelsTr/{n}.nii.gz"} for n in ("one", "two")}
    samples = []
    for more in ({"numTraining": 2}, {"numTraining": 2, "dataset": listed}):
        (folder / "dataset.json").write_text(json.dumps({**described, **more}), encoding="utf-8")
        samples.append(Sample(files_below(folder), ("dataset.json",), mutated_json))
    return samples


def _workspace(folder: Path) -> Workspace:
    """One of everything, with files that are no images: documents are read here, not they."""
    workspace = Workspace.create(folder / "workspace")
    task = workspace.add_task(Task(name="brain", modality=Modality.MR, labels=_LABELS, intensity=Percentile()))
    for number, role in enumerate((Role.TRAIN, Role.VALIDATION)):
        _add_case(workspace, f"case{number}", role, f"scan {number}".encode())
    _add_version(workspace, folder / "M0", "M0", None)
    _add_version(workspace, folder / "M1", "M1", "M0")
    workspace.promote("M1", "somebody", "better")
    file = folder / "proposal.seg.nrrd"
    file.write_bytes(b"proposal")
    record = Segmentation(
        name="scan", task=task.name, version="M1", reading="per-task", source_image="scan.nrrd", pixel_sha256=_SHA,
        segmentation_sha256=sha256_of(file), size=(2, 2, 2), spacing=(1, 1, 1), label_voxels={"grey": 1},
    )  # fmt: skip
    segmentations.store_segmentation(workspace, record, file)
    draft = drafts.Draft(id="draft-1", task=task.name, volume="scan", size=(2, 2, 2), spacing=(1, 1, 1))
    drafts.store_draft(workspace, draft, lambda path: path.write_bytes(b"draft") and None)
    return workspace


def _add_case(workspace: Workspace, name: str, role: Role, pixels: bytes) -> None:
    with workspace.staging() as staging:
        image, drawn = staging / "image.nrrd", staging / "segmentation.seg.nrrd"
        image.write_bytes(pixels)
        drawn.write_bytes(b"drawn " + pixels)
        case = Case(
            id=name, task="brain", role=role, source_image="a.nii.gz", source_segmentation="a.seg.nrrd",
            image_sha256=sha256_of(image), segmentation_sha256=sha256_of(drawn), pixel_sha256=sha256_of(image),
            size=(2, 2, 2), spacing=(1, 1, 1), label_voxels={"grey": 3},
        )  # fmt: skip
        accept_case(workspace, case, image, drawn)


def _add_version(workspace: Workspace, folder: Path, name: str, parent: str | None) -> None:
    folder.mkdir()
    (folder / "backbone.safetensors").write_bytes(b"weights")
    score = CaseScore(case="case1", dice={"grey": 0.5, "white": None})
    scores = TaskScores(task="brain", reading="per-task", version=name, cases=(score,), mean_dice=0.5)
    plan = TaskPlan(labels=_LABELS, intensity=Percentile(), spacing=(1, 1, 1), patch=(16, 16, 16))
    adapted = parent is not None
    version = ModelVersion(
        id=name, kind="adapted" if adapted else "foundation", parent=parent, task="brain" if adapted else None,
        job="adapt-1" if adapted else None, network=ResidualUNetDescription(), plans={"brain": plan} if adapted else {},
        train_cases=("case0",) if adapted else (), validation_cases=("case1",) if adapted else (),
        buffers={"brain": ("case0",)} if adapted else {}, scores=(scores,) if adapted else (),
        files={"backbone.safetensors": sha256_of(folder / "backbone.safetensors")}, settings={"seed": 1, "note": "a"},
    )  # fmt: skip
    workspace.publish(version, folder)


def _documents(folder: Path) -> Sequence[Sample]:
    workspace = _workspace(folder)
    shutil.rmtree(workspace.folder / "cache")
    (workspace.folder / "workspace.lock").unlink(missing_ok=True)
    files = files_below(workspace.folder)
    targets = tuple(name for name in files if name.endswith(".json"))
    return [Sample(files, targets, mutated_json)]


def _read_documents(folder: Path, _sample: Sample) -> None:
    """What the listings, the panels and the report look at."""
    workspace = Workspace.open(folder)
    workspace.cases()
    for version in workspace.versions():
        workspace.verify_version(version)
        workspace.foundation_of(version)
    workspace.chain_version()
    for task in workspace.tasks():
        workspace.current_version(task.name)
        worklist.worklist_entries(workspace, task.name)
        drafts.drafts(workspace, task.name)
        for record in segmentations.segmentations(workspace, task.name):
            segmentations.verify_segmentation(workspace, record)
    sections = [stage_section(workspace, version) for version in workspace.versions() if version.task]
    names = [task.name for task in workspace.tasks()]
    render_report(Report("a", ", ".join(names), sections=sections, lineage=lineage(workspace)))


def _audit(folder: Path) -> Sequence[Sample]:
    (sample,) = _documents(folder)
    return [Sample(sample.files, (audit.AUDIT_FILE,), mutated_json_lines)]


def _jobs(folder: Path) -> Sequence[Sample]:
    workspace = Workspace.create(folder / "workspace")
    path = workspace.folder / "jobs" / "adapt-1"
    path.mkdir()
    write_json(path / "job.json", Job(id="adapt-1", kind="adapt", task="brain", settings={"steps": 3}, seed=1))
    with EventWriter(path / "events.jsonl") as events:
        for event in (
            Event(kind="started", text="a"),
            Event(kind="progress", stage="stage A", step=1, total=9, loss=0.5, losses={"a": 0.1}, seconds_left=5.0),
            Event(kind="warning", text="b"),
        ):
            events.append(event)
    process = '{"schema_version": 1, "pid": 999999999, "create_time": 1.5, "host": "elsewhere"}'
    (path / "process.json").write_text(process, encoding="utf-8")
    exported = Exported(task="brain", name="scan", labels=_LABELS, origin="a", version="M1", source_image="a.nrrd")
    write_json(path / "result.json", exported)
    shutil.rmtree(workspace.folder / "cache")
    (workspace.folder / "workspace.lock").unlink(missing_ok=True)
    files = files_below(workspace.folder)
    targets = tuple(name for name in files if name.startswith("jobs/"))
    return [Sample(files, (target,), mutated_json_lines if ".jsonl" in target else mutated_json) for target in targets]


def _read_jobs(folder: Path, _sample: Sample) -> None:
    workspace = Workspace.open(folder)
    for job in control.list_jobs(workspace):
        job.process()
        job.events()
        job.progress()
        read_json(job.result_path, Exported)
        JobFolder(job.path).state()


def _backup(folder: Path) -> Sequence[Sample]:
    path = folder / "backup.zip"
    export_workspace(_workspace(folder), path)
    return [Sample({path.name: path.read_bytes()}, (path.name,), _mutated_backup)]


def _mutated_backup(random: Random, data: bytes) -> bytes:
    return mutated_archive(random, data, MANIFEST, mutated_json)


def _read_backup(folder: Path, _sample: Sample) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        place = Path(name)
        try:
            import_workspace(folder / "backup.zip", place / "new")
        finally:
            found = {path.name for path in place.iterdir()}
            assert found <= {"new"}, f"files beside the new workspace: {found}"


def _configs(_folder: Path) -> Sequence[Sample]:
    return [
        Sample({"a.toml": path.read_bytes()}, ("a.toml",), mutated_lines)
        for path in sorted((RESOURCES / "Benchmarks").glob("*.toml"))
    ]


_RECIPE = """
steps = 20
[[images]]
files = ["scans/*.nii.gz"]
modality = "MR"
spacing = [1.0, 1.0, 1.0]
[[synthetic]]
modality = "MR"
count = 4
seed = 2
"""


def _recipes(folder: Path) -> Sequence[Sample]:
    _image(folder / "scans" / "one.nii.gz")
    return [Sample({**files_below(folder), "r.toml": _RECIPE.encode()}, ("r.toml",), mutated_lines)]


READERS = (
    Reader("Decathlon dataset.json", _decathlon, lambda folder, _sample: read_data_set(folder)),
    Reader("nnU-Net dataset.json", _nnunet, lambda folder, _sample: read_data_set(folder)),
    Reader("workspace documents", _documents, _read_documents),
    Reader("workspace archive", _backup, _read_backup),
    Reader("audit.jsonl", _audit, lambda folder, _sample: audit_check.verify(Workspace.open(folder))),
    Reader("jobs and events", _jobs, _read_jobs),
    Reader("benchmark TOML", _configs, lambda folder, _sample: read_config(folder / "a.toml")),
    Reader("pre-training TOML", _recipes, lambda folder, _sample: read_recipe(folder / "r.toml")),
)
