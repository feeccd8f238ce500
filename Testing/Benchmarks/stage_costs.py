"""What MedSeqFT's stages cost on the tasks of small-real, in steps of plain fine-tuning on the same patches.

Goes on from a folder of `benchmark small-real` in which order 0 of seed 0 is finished, and changes nothing there but
caches. Each part is timed for some steps, in processor time of one thread, and scaled to the steps of the description.

python Testing/Benchmarks/stage_costs.py DATA FOLDER [--tasks hippocampus head-neck prostate brain] [--steps 40]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import Silent, clock

from MedSeqFTLib.learning.benchmark.cells import Planner
from MedSeqFTLib.learning.benchmark.config import read_config
from MedSeqFTLib.learning.benchmark.runner import Runner
from MedSeqFTLib.learning.benchmark.session import Session
from MedSeqFTLib.learning.selection.choice import with_chosen_buffer
from MedSeqFTLib.learning.stages import Context
from MedSeqFTLib.learning.strategies.medseqft import stage_a, stage_b
from MedSeqFTLib.models.compute import choose_compute

CONFIG = Path(__file__).resolve().parents[2] / "Resources" / "Benchmarks" / "small-real.toml"


def silent() -> Any:
    """A reporter with a place of its own for checkpoints."""
    return Silent(Path(tempfile.mkdtemp()))


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and seconds."""
    started = clock()
    return action(), clock() - started


def changed(context: Context, **settings: Any) -> Context:
    """The same stage with other settings, and no checkpoint in between."""
    updated = context.settings.model_copy(update={"checkpoint_seconds": 1e9, **settings})
    return replace(context, settings=updated, reporter=silent())


def row(context: Context, steps: int) -> str:
    """One line of the table."""
    ready, selecting = timed(lambda: with_chosen_buffer(context)[0])
    short = {"stage_a_steps": steps, "stage_b_steps": steps}
    stage_a(changed(ready, **short, stage_a_teacher="none"))  # warm-up
    plain = timed(lambda: stage_a(changed(ready, **short, stage_a_teacher="none")))[1]
    model, with_teacher = timed(lambda: stage_a(changed(ready, **short)))
    handing_on = timed(lambda: stage_b(changed(ready, **short), model, Path(tempfile.mkdtemp()) / "adapter"))[1]
    whole = plain / steps * context.settings.stage_a_steps
    parts = (
        selecting / whole,
        with_teacher / plain,
        handing_on / plain * context.settings.stage_b_steps / context.settings.stage_a_steps,
    )
    return " | ".join(f"{part:.2f}" for part in (*parts, sum(parts)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="+", default=["hippocampus", "head-neck", "prostate", "brain"])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    session = Session(read_config(CONFIG), CONFIG, options.data, options.folder)
    material = session.material(silent())
    runner = Runner(material, choose_compute("cpu", options.precision), options.folder, silent())
    runs = Planner(session.config, material.name).runs()
    run = next(r for r in runs if (r.strategy.kind, r.seed, r.order) == ("medseqft", 0, 0))
    print(
        f"| Task ({options.precision}) | Selection | Stage A | Stage B | Sum, as a multiple of parallel fine-tuning |"
    )
    print("|---|---|---|---|---|")
    for cell in run.stages:
        if cell.task in options.tasks:
            print(f"| {cell.task} | {row(runner.context(cell, silent()), options.steps)} |", flush=True)


if __name__ == "__main__":
    main()
