"""Seconds from starting an adaptation to its first training step, and what jobs, events and checkpoints cost.

Starts a real job in a workspace made for the purpose. The overhead is what a training stage takes in the worker beyond
the same losses and optimiser steps without reporter and checkpoints.

python Testing/Benchmarks/adaptation_overhead.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))

import torch
from common import Silent
from learning_samples import ball_workspace

from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.events import EventWriter
from MedSeqFTLib.jobs.reporter import Reporter
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.learning.training import Training
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.workspace.networks import ResidualUNetDescription


def train(reporter: object, checkpoint_seconds: float, steps: int) -> float:
    """Seconds of a training stage with the default network and checkpoints as often as by default or never."""
    net = build_backbone(ResidualUNetDescription(), 0)
    image = torch.randn(2, 1, 48, 48, 48)
    start = time.perf_counter()
    Training(
        "stage A",
        {"backbone": net},
        lambda step: {"loss": net(image).decoder.square().mean()},
        steps=steps,
        learning_rate=1e-3,
        weight_decay=0.0,
        compute=Compute(torch.device("cpu"), torch.float32),
        reporter=reporter,  # type: ignore[arg-type]
        checkpoint_seconds=checkpoint_seconds,
        identity="benchmark",
    ).run()
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace = ball_workspace(folder, train=4)
        settings = AdaptSettings(
            foundation="new", pretrain_steps=2, stage_a_steps=2, stage_b_steps=2, patch_side=16, selection_passes=1
        )
        job = control.new_job(workspace, "adapt", "balls", settings.model_dump(mode="json"))
        start = datetime.now(timezone.utc)
        running = control.start_job(workspace, job)
        events = list(control.watch(running))
        first = next(event for event in events if event.kind == "progress" and event.stage == "foundation")
        began = next(event for event in events if event.kind == "started")
        print(f"adapt to worker started     {(began.time - start).total_seconds():6.2f} s")
        print(f"adapt to first training step {(first.time - start).total_seconds():5.2f} s")

        steps, times = 60, {"with": [], "without": []}
        for number in range(3):
            runs = [folder / f"{kind}{number}" for kind in times]
            for run in runs:
                run.mkdir()
            with EventWriter(runs[0] / "events.jsonl") as writer:
                reporter = Reporter(runs[0], writer, runs[0] / "cancel")
                times["with"].append(train(reporter, AdaptSettings().checkpoint_seconds, steps))
            times["without"].append(train(Silent(runs[1]), 1e9, steps))
        mine, bare = min(times["with"]), min(times["without"])
        print(
            f"{steps} steps with events and checkpoints {mine:.2f} s, without {bare:.2f} s: "
            f"overhead {100 * (mine / bare - 1):.1f} % (wanted: below 5 %)"
        )


if __name__ == "__main__":
    main()
