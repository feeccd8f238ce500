"""Device, precision and threads: settled once, and kept where work goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from learning_samples import Notes

from MedSeqFTLib.commands.computing import chosen_compute
from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.jobs.environment import environment
from MedSeqFTLib.learning.runtime import MeasuredPrecision, described, settle_compute
from MedSeqFTLib.learning.settings import Settings
from MedSeqFTLib.models import compute
from MedSeqFTLib.workspace.files import read_json, write_json

AUTO = Settings(device="cpu")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    yield
    torch.set_num_threads(threads[0])
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads[1])


def test_what_was_found_faster_is_not_measured_again(tmp_path: Path) -> None:
    notes, kept = Notes(tmp_path), tmp_path / "precision-cpu.json"
    measured = settle_compute(AUTO, tmp_path, notes).precision
    assert read_json(kept, MeasuredPrecision).precision == measured
    other = "float32" if measured == "bfloat16" else "bfloat16"
    write_json(kept, MeasuredPrecision.model_validate({"precision": other}))
    assert settle_compute(AUTO, tmp_path, notes).precision == other
    assert notes.warnings == []


def test_another_type_of_device_measures_for_itself_and_says_so(tmp_path: Path) -> None:
    write_json(tmp_path / "precision-cuda.json", MeasuredPrecision(precision="bfloat16"))
    notes = Notes(tmp_path)
    compute = settle_compute(AUTO, tmp_path, notes)
    assert read_json(tmp_path / "precision-cpu.json", MeasuredPrecision).precision == compute.precision
    (warning,) = notes.warnings
    assert warning.startswith(f"Begun on cuda in bfloat16, this goes on with {compute}")


@pytest.mark.skipif(sys.platform == "win32", reason="its clock of computing ticks too slowly")
def test_waiting_for_the_processor_does_not_decide_on_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, threads = torch.device("cpu"), torch.get_num_threads()
    alone, autocast = compute.bfloat16_is_faster(cpu), compute.Compute.autocast

    def after_a_wait(self: compute.Compute) -> AbstractContextManager[None]:
        slow = torch.bfloat16 if alone else torch.float32
        time.sleep(0.1 if self.dtype is slow else 0)
        return autocast(self)

    monkeypatch.setattr(compute.Compute, "autocast", after_a_wait)
    assert compute.bfloat16_is_faster(cpu) is alone
    assert torch.get_num_threads() == threads


def gpu_without_memory(patch: pytest.MonkeyPatch) -> None:
    """A stand-in for a GPU that another program fills: it is counted, but nothing runs on it."""
    timed = compute._time_convolutions

    def tried(device: torch.device, *arguments: Any, **named: Any) -> float:
        if device.type == "cuda":
            raise RuntimeError("CUDA error: out of memory\nMore lines.")
        return timed(device, *arguments, **named)

    patch.setattr(torch.cuda, "device_count", lambda: 1)
    patch.setattr(compute, "_time_convolutions", tried)


def test_a_gpu_that_cannot_be_used_is_not_passed_over_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_without_memory(monkeypatch)
    notes = Notes(tmp_path)
    assert settle_compute(Settings(), tmp_path, notes).device.type == "cpu"
    (warning,) = notes.warnings
    assert warning.startswith("The GPU cannot be used (CUDA error: out of memory): this is computed on the processor")
    settle_compute(AUTO, tmp_path, notes)  # the processor was asked for
    assert len(notes.warnings) == 1


def test_commands_do_not_pass_over_a_gpu_in_silence_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu_without_memory(monkeypatch)
    assert chosen_compute("cpu", "float32").device.type == "cpu"
    assert capsys.readouterr().err == ""
    assert chosen_compute("auto", "float32").device.type == "cpu"
    assert "The GPU cannot be used (CUDA error: out of memory)" in capsys.readouterr().err


def test_the_advice_tells_a_gpu_that_fails_from_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        assert any(text.startswith("torch finds no GPU") for text in environment(tmp_path).advice)
    gpu_without_memory(monkeypatch)
    advice = environment(tmp_path).advice
    assert any(text.startswith("the GPU cannot be used (CUDA error: out of memory)") for text in advice)
    assert not any("finds no GPU" in text for text in advice)


def test_a_precision_that_was_asked_for_is_taken_and_not_kept(tmp_path: Path) -> None:
    write_json(tmp_path / "precision-cpu.json", MeasuredPrecision(precision="float32"))
    asked = Settings(device="cpu", precision="bfloat16")
    assert settle_compute(asked, tmp_path, Notes(tmp_path)).dtype is torch.bfloat16
    assert read_json(tmp_path / "precision-cpu.json", MeasuredPrecision).precision == "float32"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "precision-cpu.json").write_text('{"schema_version": 1, "precision": "float8"}', encoding="utf-8")
    with pytest.raises(WorkspaceError, match=r"precision-cpu\.json is damaged: field precision"):
        settle_compute(AUTO, tmp_path, Notes(tmp_path))


def test_threads_are_torch_s_and_simple_itk_s(tmp_path: Path) -> None:
    one = Settings(device="cpu", precision="float32", threads=1)
    compute = settle_compute(one, tmp_path, Notes(tmp_path))
    assert torch.get_num_threads() == sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 1
    assert described(compute) == "cpu, float32, 1 thread"
