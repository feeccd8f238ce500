"""Time and peak memory of one stage of every strategy, as multiples of full fine-tuning with as many steps.

Two tasks of drawn scans; each strategy learns the second after the first, which is fine-tuned once for all. Each stage
runs in a process of its own. The strategies take turns, so that a slow spell of the machine meets all; of more rounds
the shortest time counts. A second MedSeqFT keeps the targets of --bank batches, a third has no selection to make.

python Testing/Benchmarks/strategy_costs.py [--steps 100] [--rounds 2] [--bank 16] [--threads 0] [--precision float32]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as in a job's worker
import torch
from common import Silent, costs, machine

from MedSeqFTLib.learning.benchmark.cells import Cell, Planner
from MedSeqFTLib.learning.benchmark.config import read_config
from MedSeqFTLib.learning.benchmark.material import Material
from MedSeqFTLib.learning.benchmark.runner import Runner
from MedSeqFTLib.learning.benchmark.session import Session
from MedSeqFTLib.learning.selection.choice import with_chosen_buffer
from MedSeqFTLib.learning.strategies.registry import REGISTRY
from MedSeqFTLib.models.compute import choose_compute

CONFIG = """
title = "costs"
orders = [["tissue", "ventricles"]]
[settings]
precision = "{precision}"
[[tasks]]
name = "tissue"
drawn = {{ kind = "t1-tissue", cases = 6, seed = 1 }}
held_out = 1
steps = {steps}
[[tasks]]
name = "ventricles"
drawn = {{ kind = "t2-ventricles", cases = 6, seed = 2 }}
held_out = 1
steps = {steps}
"""
VARIANTS = {
    **{kind: "" for kind in REGISTRY},
    "medseqft, kept targets": "stage_b_bank = {bank}",
    "medseqft, random buffer": 'selection = "random"',
}


def prepared(folder: Path, label: str, precision: str, threads: int) -> Callable[[], object]:
    """The stage of one strategy, ready to be called."""
    if threads:
        torch.set_num_threads(threads)
    session = Session(read_config(folder / "costs.toml"), folder / "costs.toml", folder, folder)
    reporter = Silent(Path(tempfile.mkdtemp(dir=folder)))
    material = session.material(reporter)  # type: ignore[arg-type]
    runner = Runner(material, choose_compute("auto", precision), folder, reporter)  # type: ignore[arg-type]
    cell = stage(session, material, label)
    if cell.parent is not None:
        runner.run([cell.parent])
    context = runner.context(cell, reporter)  # type: ignore[arg-type]
    strategy = REGISTRY[cell.strategy]

    def learn() -> None:
        ready = with_chosen_buffer(context)[0] if strategy.keeps_cases else context
        strategy.learn(ready, reporter.folder)

    return learn


def stage(session: Session, material: Material, label: str) -> Cell:
    """The last stage of a strategy, after one fine-tuning that all share, but for those that begin anew or remember."""
    runs = {run.strategy.label: run.stages for run in Planner(session.config, material.name).runs()}
    cell, first = runs[label][-1], runs["sequential"][0]
    if cell.parent is None or cell.strategy == "ewc":  # EWC needs the importance that its own first stage stored
        return cell
    return Cell(cell.strategy, cell.settings, cell.task, cell.seed, first, (), cell.data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bank", type=int, default=16, help="batches")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = CONFIG.format(steps=options.steps, precision=options.precision)
        for label, settings in VARIANTS.items():
            changes = settings.format(bank=options.bank)
            kind = label.partition(",")[0]
            text += f'[[strategies]]\nkind = "{kind}"\nlabel = "{label}"\nsettings = {{ {changes} }}\n'
        (folder / "costs.toml").write_text(text, encoding="utf-8")
        prepared(
            folder, "sequential", options.precision, options.threads
        )  # the shared first stage, outside of what is timed
        best = dict.fromkeys(VARIANTS, (float("inf"), 0.0))
        for _ in range(options.rounds):
            for label in VARIANTS:
                best[label] = min(best[label], costs(prepared, folder, label, options.precision, options.threads))
    print(f"{machine()}, {options.precision}, {options.steps} steps a task")
    print("| Strategy | Time | Peak memory |\n|---|---|---|")
    seconds, memory = best["parallel"]
    for label, (own, peak) in best.items():
        tasks = 2 if REGISTRY[label.partition(",")[0]].all_at_once else 1
        print(f"| {label} | {own / tasks / seconds:.2f} | {peak / memory:.2f} |")
    print(f"Parallel: {seconds:.1f} s, {memory:.0f} MiB.")


if __name__ == "__main__":
    main()
