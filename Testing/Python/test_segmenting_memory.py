"""Memory that does not suffice. No graphics card is needed: what torch would raise for one is raised here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from learning_samples import Notes, ball_scan
from panel_samples import copied
from workspace_samples import python

from MedSeqFTLib.commands.app import exit_code_of
from MedSeqFTLib.errors import InputError, JobError
from MedSeqFTLib.jobs.job import Job
from MedSeqFTLib.learning import errands, runtime, segmenting
from MedSeqFTLib.models import compute
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.workspace.schema import Segmentation
from MedSeqFTLib.workspace.segmentations import segmentations
from MedSeqFTLib.workspace.verification import verify_recorded
from MedSeqFTLib.workspace.workspace import Workspace


def run(folder: Path, patch: pytest.MonkeyPatch, enough_on_cpu: bool) -> tuple[list[str], Notes]:
    """Fakes: the choice of the device, and a segmentation that fits only where it is told to."""
    tried: list[str] = []

    def settle(settings: Any, _folder: Path, _teller: object) -> Compute:
        return Compute(torch.device("cpu" if settings.device == "cpu" else "cuda"), torch.float32)

    def segment(_workspace: object, task: str, _image: Path, compute: Compute, **_settings: Any) -> Segmentation:
        tried.append(compute.device.type)
        if compute.device.type == "cpu" and enough_on_cpu:
            return Segmentation(
                name="scan",
                task=task,
                version="M1",
                reading="per-task",
                source_image="scan.nrrd",
                pixel_sha256="",
                segmentation_sha256="",
                size=(1, 1, 1),
                spacing=(1, 1, 1),
                label_voxels={},
            )
        raise torch.OutOfMemoryError("Tried to allocate 20 GiB.\nMore lines.")

    patch.setattr(runtime, "settle_compute", settle)
    patch.setattr(segmenting, "segment_volume", segment)
    settings = {"image": "scan.nrrd", "name": "scan", "version": "M1"}
    notes = Notes(folder)
    job = Job(id="segment-1", kind="segment", task="balls", settings=settings)
    errands.run_segmentation(None, job, notes)  # type: ignore[arg-type]
    return tried, notes


def test_it_is_computed_on_the_processor_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried, notes = run(tmp_path, monkeypatch, True)
    assert tried == ["cuda", "cpu"]
    (warning,) = notes.warnings
    assert warning == "Too little memory on cuda (Tried to allocate 20 GiB.): computed on the processor, more slowly."
    assert (tmp_path / errands.RESULT_FILE).is_file()


def test_where_nothing_computes_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even the trial of the processor fails where memory is used up."""

    def full(*_: object, **__: object) -> float:
        raise MemoryError

    monkeypatch.setattr(compute, "_time_convolutions", full)
    with pytest.raises(InputError, match=r"not even the processor \(MemoryError\)"):
        compute.choose_device("auto")


def test_too_little_memory_anywhere_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JobError, match="close other programs, then resume"):
        run(tmp_path, monkeypatch, False)
    assert not (tmp_path / errands.RESULT_FILE).exists()


#: What the command line does in a process that gets little more memory than it has once the libraries are there.
LITTLE = """
import resource, sys, psutil, typer
from MedSeqFTLib.commands.app import app
from MedSeqFTLib.quick_import import import_monai
import_monai()
import torch, MedSeqFTLib.learning.segmenting
torch.set_num_threads(1)  # OpenMP ends a process in which it can begin no thread
command = typer.main.get_command(app)
for more in map(int, sys.argv[3:]):
    held = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (held + (more << 20), resource.RLIM_INFINITY))
    arguments = ["segment", "balls", sys.argv[1], "--workspace", sys.argv[2], "--device", "cpu"]
    code = command.main(arguments, standalone_mode=False)
    print(more, "MB: exit code", code, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
def test_the_command_line_says_what_to_do_where_memory_is_used_up(adapted: Workspace, tmp_path: Path) -> None:
    sitk.WriteImage(ball_scan(5)[0], str(tmp_path / "scan.nrrd"))
    workspace, amounts = copied(adapted, tmp_path), (4, 8, 4000)  # MB; with less, a library in Rust may end the process
    process = python(LITTLE, tmp_path / "scan.nrrd", workspace.folder, *amounts)
    told = process.communicate()[1].splitlines()
    assert [line for line in told if "exit code" in line] == [
        f"{more} MB: exit code {int(more < 10)}" for more in amounts
    ], told
    errors = [line for line in told if line.startswith("Error: ")]
    assert len(errors) == 2 and "Traceback" not in "".join(told)
    for line in errors:
        assert line.startswith("Error: Out of memory (")
        assert "Close other programs, then give the command again" in line
    assert [record.name for record in segmentations(workspace, "balls")] == ["scan"]
    assert verify_recorded(workspace).problems == ()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "Error: Out of memory (no memory is left). Close other programs, then give the command again"),
        (
            RuntimeError("CUDA error: no card\nMore."),
            "Error: The graphics card failed (CUDA error: no card). First give",
        ),
    ],
)
def test_every_command_tells_it(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise error

    assert exit_code_of(fails) == 1
    assert capsys.readouterr().err.startswith(told)


def test_other_errors_are_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(segmenting, "segment_volume", broken)
    job = Job(
        id="segment-1",
        kind="segment",
        task="balls",
        settings={"image": "scan.nrrd", "name": "scan", "version": "M1", "device": "cpu", "precision": "float32"},
    )
    with pytest.raises(RuntimeError, match="a bug"):
        errands.run_segmentation(None, job, Notes(tmp_path))  # type: ignore[arg-type]
