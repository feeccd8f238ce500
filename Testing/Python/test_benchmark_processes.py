"""`medseqft benchmark --processes`: real processes that share a folder, and what happens when one of them ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from benchmark_samples import TASKS, records, starts, write_balls

from MedSeqFTLib.commands import helpers
from MedSeqFTLib.commands.helpers import Helpers, Leader
from MedSeqFTLib.errors import JobError
from MedSeqFTLib.jobs.system import usable_cores
from MedSeqFTLib.learning.benchmark.records import CELLS
from MedSeqFTLib.learning.runtime import MeasuredPrecision
from MedSeqFTLib.workspace.files import write_json

ROOT = Path(__file__).resolve().parents[2]
SHORT = f'{TASKS}[[strategies]]\nkind = "parallel"\n'
LONG = SHORT.replace("steps = 3", "steps = 100000")


def started(folder: Path, text: str, processes: int) -> subprocess.Popen[str]:
    """The command; its results go to FOLDER/results."""
    write_balls(folder)
    (folder / "balls.toml").write_text(text, encoding="utf-8")
    words = ["benchmark", str(folder / "balls.toml"), "--folder", str(folder / "results"), "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, "-m", "MedSeqFTLib.commands", *words, "--processes", str(processes)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


def test_two_processes_share_the_cells_the_threads_and_what_was_measured(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    write_json(folder / "precision-cpu.json", MeasuredPrecision(precision="float32"))
    process = started(tmp_path, SHORT.replace('precision = "float32"', 'precision = "auto"'), 2)
    told, _ = process.communicate(timeout=240)
    assert process.returncode == 0, told
    found, each = records(folder), max(1, usable_cores() // 2)
    where = f"cpu, float32, {each} thread{'s' if each > 1 else ''}, 2 processes"
    assert {record.computed_on for record in found.values()} == {where}
    assert set(starts(folder).values()) == {1}
    assert len(found) == 2
    assert all(key in told for key in found), "whoever computes a cell, the first process tells of it"
    assert "0 cells left" in told
    assert told.count("Tables, pictures and page:") == 1
    log = (folder / "processes" / "2.log").read_text(encoding="utf-8")
    assert "Computing on cpu, float32" in log
    assert "Tables" not in log


def test_when_one_process_is_killed_all_end_with_its_words(tmp_path: Path) -> None:
    process = started(tmp_path, LONG, 3)
    deadline = time.monotonic() + 240
    while len(list(tmp_path.glob(f"results/{CELLS}/*/checkpoints/*.pt"))) < 2:  # there are two cells to be learned
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    killed, other = psutil.Process(process.pid).children()
    killed.kill()
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Error: Process 2 ended with exit code" in told
    assert "2.log" in told
    assert not other.is_running()


def test_a_failure_is_told_in_the_words_of_whoever_failed(tmp_path: Path) -> None:
    with (
        pytest.raises(
            JobError, match=r"Process 2 ended with exit code 2: The benchmark gone\.toml cannot be read.*2\.log"
        ),
        Helpers(1, ["benchmark", "gone.toml"], tmp_path) as both,
    ):
        both.wait()


def test_what_was_told_in_earlier_runs_is_not_told_again(tmp_path: Path) -> None:
    (tmp_path / "processes").mkdir()
    log = tmp_path / "processes" / "2.log"
    log.write_text("Warning: old\n", encoding="utf-8")
    with Helpers(1, ["benchmark", "--help"], tmp_path) as helping:
        helping.wait()
        with log.open("a", encoding="utf-8") as file:
            file.write("Warning: new\n")
        assert list(helping.warnings()) == ["new"]


def test_helpers_end_with_the_work(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Helpers(2, ["benchmark", "--help"], tmp_path):
        children = psutil.Process().children()
        assert len(children) == 2
        raise KeyboardInterrupt
    assert not any(child.is_running() for child in children)


def test_a_helper_stops_when_its_leader_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "_LOOK", 0.0)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    leader = Leader(process.pid)
    leader.check()
    process.kill()
    process.wait()
    with pytest.raises(KeyboardInterrupt):
        leader.check()
