"""What MedSeqFT's stages cost on the tasks of small-real, in steps of plain fine-tuning on the same patches.

Goes on from a folder of `benchmark small-real` in which the order is finished with seed 0, and changes only caches
there. Each part is timed with few and with more steps, in processor time of one thread, the median of some rounds in
which the parts take turns, and extrapolated to the steps of the description.

python Testing/Benchmarks/stage_costs.py DATA FOLDER [--tasks TASK ...] [--steps 16] [--order 0] [--rounds 5]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import Silent, in_turns

from MedSeqFTLib.learning.benchmark.cells import Planner
from MedSeqFTLib.learning.benchmark.config import read_config
from MedSeqFTLib.learning.benchmark.runner import Runner
from MedSeqFTLib.learning.benchmark.session import Session
from MedSeqFTLib.learning.selection.choice import with_chosen_buffer
from MedSeqFTLib.learning.stages import ChainModel, Context, TaskModel
from MedSeqFTLib.learning.strategies.medseqft import stage_a, stage_b
from MedSeqFTLib.models.compute import choose_compute

LONGER = 6  # times the steps of the shorter one
CONFIG = Path(__file__).resolve().parents[2] / "Resources" / "Benchmarks" / "small-real.toml"


def silent() -> Any:
    """A reporter with a place of its own for checkpoints."""
    return Silent(Path(tempfile.mkdtemp()))


def changed(context: Context, **settings: Any) -> Context:
    """The same stage with other settings, and no checkpoint in between."""
    updated = context.settings.model_copy(update={"checkpoint_seconds": 1e9, **settings})
    return replace(context, settings=updated, reporter=silent())


def row(context: Context, steps: int, rounds: int) -> str:
    """One line of the table."""
    settings = context.settings
    ready = with_chosen_buffer(context)[0]

    def adapted(steps: int, **more: Any) -> TaskModel:
        return stage_a(changed(ready, stage_a_steps=steps, **more))

    def handed_on(steps: int) -> ChainModel:
        return stage_b(changed(ready, stage_b_steps=steps), model, Path(tempfile.mkdtemp()) / "adapter")

    model = adapted(steps)
    stages: dict[str, tuple[Callable[[int], Any], int]] = {
        "plain": (lambda n: adapted(n, stage_a_teacher="none"), settings.stage_a_steps),
        "stage A": (adapted, settings.stage_a_steps),
        "stage B": (handed_on, settings.stage_b_steps),
    }
    few, many = steps, LONGER * steps
    samples = {f"{name} {n}": partial(run, n) for name, (run, _) in stages.items() for n in (few, many)}
    seconds = in_turns({"selection": lambda: with_chosen_buffer(changed(context)), **samples}, rounds, median)

    def whole(name: str) -> float:
        """Of a stage of all its steps; what begins and ends it is not multiplied."""
        short, long = seconds[f"{name} {few}"], seconds[f"{name} {many}"]
        return short + (long - short) / (many - few) * (stages[name][1] - few)

    parts = (seconds["selection"], whole("stage A"), whole("stage B"))
    return " | ".join(f"{part / whole('plain'):.2f}" for part in (*parts, sum(parts)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="+", default=["hippocampus", "head-neck", "prostate", "brain"])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--order", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    session = Session(read_config(CONFIG), CONFIG, options.data, options.folder)
    material = session.material(silent())
    runner = Runner(material, choose_compute("cpu", options.precision), options.folder, silent())
    runs = Planner(session.config, material.name).runs()
    run = next(r for r in runs if (r.strategy.kind, r.seed, r.order) == ("medseqft", 0, options.order))
    print(
        f"| Task ({options.precision}) | Selection | Stage A | Stage B | Sum, as a multiple of parallel fine-tuning |"
    )
    print("|---|---|---|---|---|")
    for cell in run.stages:
        if cell.task in options.tasks:
            print(f"| {cell.task} | {row(runner.context(cell, silent()), options.steps, options.rounds)} |", flush=True)


if __name__ == "__main__":
    main()
