"""A graphics card whose memory does not suffice. No card is needed: what torch would raise is raised here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from learning_samples import Notes

from MedSeqFTLib.errors import InputError, JobError
from MedSeqFTLib.jobs.job import Job
from MedSeqFTLib.learning import errands, runtime, segmenting
from MedSeqFTLib.models import compute
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.workspace.schema import Segmentation


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
