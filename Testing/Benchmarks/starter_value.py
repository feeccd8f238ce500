"""What the starter model is worth: few-shot fine-tuning from it against fine-tuning from random weights.

Every cell (task, number of training cases, seed, start) fine-tunes the library's stage A, without teacher and buffers,
on cases drawn by the seed, and measures Dice on held-out cases that the pre-training never saw. Both starts get the
same cases, batches, steps and learning rate. A finished cell is kept: an interrupted run goes on where it stopped.

python Testing/Benchmarks/starter_value.py DATA FOLDER [--steps 300] [--part 0/1]

DATA holds the data sets that Resources/Models/medseqft-starter.toml names. FOLDER keeps the workspace and the results.
Several parts (0/2 and 1/2) may run beside each other.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from common import Silent
from numpy.typing import NDArray

from MedSeqFTLib.imaging.decathlon import import_cases, read_data_set, split
from MedSeqFTLib.learning.data import PreparedData, make_plan
from MedSeqFTLib.learning.held_out import measure
from MedSeqFTLib.learning.importing import import_starter
from MedSeqFTLib.learning.publishing import publish_foundation, save_modules
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.learning.stages import Context
from MedSeqFTLib.learning.strategies.medseqft import stage_a
from MedSeqFTLib.models.compute import choose_compute
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.segmenter import Segmenter
from MedSeqFTLib.models.weights import BACKBONE
from MedSeqFTLib.workspace.files import write_bytes_atomically
from MedSeqFTLib.workspace.schema import ModelVersion, Role
from MedSeqFTLib.workspace.workspace import Workspace

#: Data set -> how many of its cases the starter's recipe holds out.
HELD_OUT = {"Task01_Hippocampus": 30, "Task02_HeadNeckCT": 20, "Task03_ProstateMR": 9, "Task04_BrainRegions": 6}
MEASURED = 10  # held-out cases that are measured, at most
OVERLAP = 0.25  # of prediction windows: half the time of the product's 0.5
SHOTS = (3, 5, 10)
STARTS = ("starter", "random")
DRAWS = 10_000  # of the bootstrap


@dataclass(frozen=True)
class Cell:
    """One fine-tuning."""

    task: str
    shots: int
    seed: int
    start: str
    steps: int
    rate: float  # peak of the learning rate

    @property
    def name(self) -> str:
        return f"{self.task}-{self.shots}-{self.seed}-{self.start}-{self.steps}-{self.rate:g}"


def prepare(data: Path, folder: Path) -> Workspace:
    """A workspace with every case of every data set, the starter, and a version with random weights."""
    path = folder / "workspace"
    if (path / "workspace.json").exists():
        return Workspace.open(path)
    workspace = Workspace.create(path)
    for name, held_out in HELD_OUT.items():
        data_set = read_data_set(data / name, name)
        chosen = split(data_set.pairs, None, held_out, 0)
        validation = [pair for pair in chosen if pair[1] is Role.VALIDATION][:MEASURED]
        for _ in import_cases(workspace, data_set.task, [*validation, *(p for p in chosen if p[1] is Role.TRAIN)]):
            pass
    return workspace


def parent(workspace: Workspace, start: str, seed: int) -> ModelVersion:
    """What fine-tuning starts from: the starter, or the same network with fresh weights, another for every seed."""
    starters = [version for version in workspace.versions() if version.origin is not None]
    starter = starters[0] if starters else import_starter(workspace)
    if start == "starter":
        return starter
    note = f"random weights, seed {seed}"
    known = next((version for version in workspace.versions() if version.note == note), None)
    if known is not None:
        return known
    with workspace.staging() as staged:
        save_modules(staged, {BACKBONE: build_backbone(starter.network, seed)})
        return publish_foundation(workspace, staged, starter.network, note, input=starter.input)


def run(workspace: Workspace, cell: Cell, folder: Path) -> None:
    """Fine-tune, measure, and write the cell's result."""
    started = time.perf_counter()
    settings = AdaptSettings(
        stage_a_steps=cell.steps, stage_a_learning_rate=cell.rate, stage_a_teacher="none", precision="float32"
    )
    compute = choose_compute("auto", "float32")
    version = parent(workspace, cell.start, cell.seed)
    every = sorted(workspace.cases(cell.task, Role.TRAIN), key=lambda case: case.id)
    plan = make_plan(workspace, workspace.task(cell.task), every, None, parent(workspace, "starter", 0), settings)
    train = random.Random(cell.seed).sample(every, cell.shots)
    reporter = Silent(folder / "cells" / cell.name)
    reporter.folder.mkdir(parents=True, exist_ok=True)
    context = Context(
        workspace=workspace,
        reporter=reporter,  # type: ignore[arg-type]
        settings=settings,
        compute=compute,
        seed=cell.seed,
        task=cell.task,
        plan=plan,
        parent=version,
        foundation=version,
        train=train,
        prepared=PreparedData(workspace).cases(train, plan),
    )
    model = stage_a(context)
    held_out = workspace.cases(cell.task, Role.VALIDATION)
    segmenter = Segmenter(model.backbone, model.head, plan, compute, OVERLAP)
    scores = measure(workspace, segmenter, held_out, plan, "per-task", version.id, lambda _score: None, lambda: None)
    dice = {case.case: fmean(v for v in case.dice.values() if v is not None) for case in scores.cases}
    result = {"dice": dice, "mean": scores.mean_dice, "seconds": time.perf_counter() - started}
    write_bytes_atomically(folder / "results" / f"{cell.name}.json", json.dumps(result).encode())
    print(f"{cell.name}: Dice {scores.mean_dice:.3f}, {result['seconds']:.0f} s", flush=True)


def cells(tasks: Sequence[str], shots: Sequence[int], seeds: int, steps: int, rate: float) -> list[Cell]:
    """All cells; pairs that belong together lie side by side, and the target's number of cases comes first."""
    return [
        Cell(task, count, seed, start, steps, rate)
        for seed in range(seeds)
        for count in sorted(shots, key=lambda count: count != 5)
        for task in tasks
        for start in STARTS
    ]


Results = Mapping[tuple[str, int, int, str], Mapping[str, float]]


def gain(results: Results, task: str, shots: int, seeds: Sequence[int]) -> tuple[float, NDArray[np.float64]]:
    """Mean gain in Dice, paired by case and seed, and what it would be for cases and seeds drawn anew."""
    pairs = [(results[task, shots, s, "starter"], results[task, shots, s, "random"]) for s in seeds]
    names = sorted(pairs[0][0])
    gains = np.array([[a[name] - b[name] for name in names] for a, b in pairs])
    rng = np.random.default_rng(0)
    some_seeds = rng.integers(len(seeds), size=(DRAWS, len(seeds)))
    some_cases = rng.integers(len(names), size=(DRAWS, len(names)))
    draws = [gains[np.ix_(s, c)].mean() for s, c in zip(some_seeds, some_cases, strict=True)]
    return float(gains.mean()), np.array(draws)


def interval(mean: float, draws: NDArray[np.float64]) -> str:
    """In Dice points, with a 95 % interval."""
    low, high = np.percentile(draws, (2.5, 97.5))
    return f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def finished(folder: Path, wanted: Sequence[Cell]) -> Results:
    """Dice by held-out case of every cell that is finished."""
    paths = {cell: folder / "results" / f"{cell.name}.json" for cell in wanted}
    return {
        (cell.task, cell.shots, cell.seed, cell.start): json.loads(path.read_text())["dice"]
        for cell, path in paths.items()
        if path.exists()
    }


def table(results: Results, total: int) -> str:
    """The results as a Markdown table; what is not finished for both starts is left out."""
    lines = [
        "| Task | Training cases | From random weights | From the starter | Gain in points (95 % interval) | Seeds |",
        "|---|---|---|---|---|---|",
    ]
    for shots in SHOTS:
        rows = [row for task in HELD_OUT if (row := _row(results, task, shots)) is not None]
        lines += [line for line, _, _ in rows]
        if len(rows) == len(HELD_OUT):
            mean, draws = fmean(mean for _, mean, _ in rows), np.mean([draws for _, _, draws in rows], axis=0)
            lines.append(f"| **mean of the tasks** | {shots} | | | **{interval(mean, draws)}** | |")
    return "\n".join([*lines, "", f"{len(results)} of {total} cells finished."])


def _row(results: Results, task: str, shots: int) -> tuple[str, float, NDArray[np.float64]] | None:
    both = {s for t, n, s, _ in results if (t, n) == (task, shots)}
    seeds = sorted(s for s in both if all((task, shots, s, start) in results for start in STARTS))
    if not seeds:
        return None
    starter, random_ = (fmean(fmean(results[task, shots, s, start].values()) for s in seeds) for start in STARTS)
    mean, draws = gain(results, task, shots, seeds)
    line = f"| {task} | {shots} | {random_:.3f} | {starter:.3f} | {interval(mean, draws)} | {len(seeds)} |"
    return line, mean, draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rate", type=float, default=AdaptSettings().stage_a_learning_rate, help="learning rate")
    parser.add_argument("--tasks", nargs="+", default=list(HELD_OUT), choices=list(HELD_OUT))
    parser.add_argument("--shots", nargs="+", type=int, default=list(SHOTS), help="training cases")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    parser.add_argument("--part", default="0/1", help="for instance 0/2: every second cell, from the first on")
    parser.add_argument("--table", action="store_true", help="only show what is finished")
    options = parser.parse_args()
    wanted = cells(options.tasks, options.shots, options.seeds, options.steps, options.rate)
    if not options.table:
        if options.threads:
            torch.set_num_threads(options.threads)
        (options.folder / "results").mkdir(parents=True, exist_ok=True)
        workspace = prepare(options.data, options.folder)
        part, parts = map(int, options.part.split("/"))
        for cell in wanted[part::parts]:
            if not (options.folder / "results" / f"{cell.name}.json").exists():
                run(workspace, cell, options.folder)
    print(table(finished(options.folder, wanted), len(wanted)))


if __name__ == "__main__":
    main()
