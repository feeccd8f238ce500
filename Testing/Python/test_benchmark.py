"""`medseqft benchmark`: runs, resumes, refuses, tells. Real training on small scans of balls."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmark_samples import TASKS, records, starts, write_balls

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.learning.benchmark.records import CELLS
from MedSeqFTLib.learning.strategies.names import STRATEGIES
from MedSeqFTLib.workspace.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"""{TASKS}
[[strategies]]
kind = "parallel"
label = "longer"
budget = 2

[[strategies]]
kind = "parallel"

[[strategies]]
kind = "multi-task"

[[strategies]]
kind = "sequential"

[[strategies]]
kind = "lwf"

[[strategies]]
kind = "ewc"
settings = {{ ewc_patches = 2 }}

[[strategies]]
kind = "replay"

[[strategies]]
kind = "linear-probe"

[[strategies]]
kind = "lora"

[[strategies]]
kind = "medseqft"
transfer = [0]
"""
# Parallel and the first stages of sequential and LwF are the same; MedSeqFT learns "two" also alone, for a transfer.
CELL_COUNT = 2 + 2 + 1 + 1 + 1 + 2 + 2 + 2 + 2 + 3 + 2
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_balls(folder)
    (folder / "balls.toml").write_text(CONFIG, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark that ran without a break."""
    folder = tmp_path_factory.mktemp("finished") / "results"
    assert app(arguments(data, folder), standalone_mode=False) == 0
    return folder


def arguments(data: Path, folder: Path, *more: str) -> list[str]:
    return ["benchmark", str(data / "balls.toml"), "--folder", str(folder), "--device", "cpu", "--threads", "1", *more]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A command's exit code, stdout and stderr."""

    def medseqft(*words: str) -> tuple[int, str, str]:
        code = app(list(words), standalone_mode=False)
        captured = capsys.readouterr()
        return code, " ".join(captured.out.split()), " ".join(captured.err.split())

    return medseqft


def weights(folder: Path) -> dict[str, str]:
    """The hash of every model file, by cell."""
    workspace = Workspace.open(folder / "workspace")
    return {
        f"{key}/{name}": sha256
        for key, record in records(folder).items()
        for name, sha256 in workspace.version(record.version).files.items()
        if name.endswith("backbone.safetensors")
    }


def test_every_stage_is_computed_once_and_measured(finished: Path) -> None:
    found = records(finished)
    assert len(found) == CELL_COUNT
    assert set(starts(finished).values()) == {1}
    assert {record.computed_on for record in found.values()} == {"cpu, float32, 1 thread"}
    chain = next(r for r in found.values() if r.strategy == "medseqft" and r.task == "two" and r.parent)
    assert [scores.task for scores in chain.per_task] == ["two"]
    assert [scores.task for scores in chain.single_model] == ["one", "two"]
    cases = [case for scores in chain.single_model for case in scores.cases]
    assert all(case.hd95.keys() == case.dice.keys() == case.nsd.keys() for case in cases)
    joint = next(r for r in found.values() if r.strategy == "multi-task")
    assert (
        {scores.task for scores in joint.per_task} == {scores.task for scores in joint.single_model} == {"one", "two"}
    )
    assert not list((finished / CELLS).glob("*/checkpoints")), "what is done needs no checkpoint"


def test_tables_pictures_and_the_page_are_written(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "Balls: &lt;b&gt;no&lt;/b&gt; evidence" in page
    assert "<script" not in page
    assert "cpu, float32, 1 thread" in page
    assert (finished / "config.toml").read_text(encoding="utf-8") == CONFIG
    assert "MedSeqFT" in (finished / "tables.md").read_text(encoding="utf-8")
    assert list((finished / "pictures").glob("*.png"))
    with (finished / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["strategy"] for row in rows} == {known.title for known in STRATEGIES.values()}
    assert {row["label"] for row in rows} == {"ball", "shell"}
    assert "longer" not in {row["strategy"] for row in rows}, "it only shows convergence"


def test_a_finished_benchmark_is_not_computed_again(finished: Path, data: Path, run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / CELLS).rglob("*") if path.is_file()}
    code, out, _ = run(*arguments(data, finished))
    assert (code, "done;" in out) == (0, False)
    assert {path: path.stat().st_mtime_ns for path in (finished / CELLS).rglob("*") if path.is_file()} == before


def test_killed_benchmarks_go_on_to_the_same_models(finished: Path, data: Path, tmp_path: Path, run: Run) -> None:
    """Two processes share the work, one is killed in the middle of a cell; nothing finished is computed again."""
    folder = tmp_path / "results"
    few = f'{TASKS}[[strategies]]\nkind = "parallel"\n[[strategies]]\nkind = "medseqft"\n'
    (tmp_path / "balls.toml").write_text(few, encoding="utf-8")
    some = [*arguments(tmp_path, folder), "--data", str(data)]
    command = [sys.executable, "-m", "MedSeqFTLib.commands", *some]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    deadline = time.monotonic() + 240
    while not list(folder.glob(f"{CELLS}/*/checkpoints/*.pt")):
        assert time.monotonic() < deadline
        assert any(process.poll() is None for process in processes), "it ended before it could be killed"
        time.sleep(0.01)
    for process in processes:
        process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        process.wait()
    early = records(folder)
    code, _, _ = run(*some)
    assert code == 0
    unbroken = weights(finished)
    assert weights(folder) == {name: unbroken[name] for name in weights(folder)}
    assert len(records(folder)) == 4
    begun = starts(folder)
    assert sum(begun.values()) - len(begun) in (1, 2), "at most one cell of each killed process is begun again"
    assert all(begun[key] == 1 and records(folder)[key] == record for key, record in early.items())


def test_a_dry_run_tells_and_computes_nothing(data: Path, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "results"
    code, out, _ = run(*arguments(data, folder, "--dry-run"))
    assert code == 0
    assert f"{CELL_COUNT} stages in all" in out
    assert "MiB" in out
    assert not folder.exists()


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_missing_data_is_told_at_the_start(data: Path, tmp_path: Path, run: Run, dry: tuple[str, ...]) -> None:
    text = CONFIG.replace('folder = "Two"', 'folder = "Gone"\nsource = "https://example.org"')
    (tmp_path / "balls.toml").write_text(text.replace("held_out = 1\ntrain = 2", "held_out = 9"), encoding="utf-8")
    folder = tmp_path / "results"
    code, _, error = run("benchmark", str(tmp_path / "balls.toml"), "--data", str(data), "--folder", str(folder), *dry)
    assert code == 2
    assert "one: The data set has 4 cases, too few for" in error
    assert f"two: {data / 'Gone'} has no dataset.json" in error
    assert "Get it from: https://example.org." in error
    assert not folder.exists()


def test_a_benchmark_without_its_baseline_is_refused_at_the_start(data: Path, tmp_path: Path, run: Run) -> None:
    text = CONFIG.replace('[[strategies]]\nkind = "parallel"\n\n', "")  # the longer one only shows convergence
    (tmp_path / "balls.toml").write_text(text, encoding="utf-8")
    code, _, error = run(*arguments(tmp_path, tmp_path / "results"), "--data", str(data))
    assert code == 2
    assert "balls.toml has no strategy of the kind 'parallel' with the budget 1" in error
    assert not (tmp_path / "results").exists()


def test_another_split_needs_another_folder(finished: Path, data: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "balls.toml").write_text(CONFIG.replace("held_out = 1\ntrain", "held_out = 2\ntrain"), encoding="utf-8")
    code, _, error = run(
        "benchmark", str(tmp_path / "balls.toml"), "--data", str(data), "--folder", str(finished), "--device", "cpu"
    )
    assert code == 2
    assert "another held_out or split_seed" in error


def test_paper_like_says_what_is_missing_and_what_it_would_take(tmp_path: Path, run: Run) -> None:
    code, out, error = run("benchmark", "paper-like", "--data", str(tmp_path), "--dry-run", "--device", "cpu")
    assert code == 2
    assert "stages in all" in out
    assert "13 things that the benchmark needs are missing" in error
    assert "kits-challenge.org" in error
    assert "model_swinvit.pt" in error


@pytest.mark.slow  # a minute; the balls above run every strategy, too
def test_smoke_runs_every_strategy(tmp_path: Path, run: Run) -> None:
    code, out, _ = run("benchmark", "smoke", "--folder", str(tmp_path / "results"), "--device", "cpu", "--threads", "2")
    assert code == 0
    assert "report.html" in out
    table = (tmp_path / "results" / "tables.md").read_text(encoding="utf-8")
    for title in ("Parallel", "Multi-task", "Sequential", "LwF", "EWC", "Replay", "LoRA only", "Linear probe"):
        assert f"| {title} |" in table
