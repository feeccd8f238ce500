"""Draw the losses of a job over its steps, as measured and as running mean.

python Testing/Benchmarks/loss_curve.py WORKSPACE JOB PICTURE.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

from MedSeqFTLib.jobs import control
from MedSeqFTLib.workspace.workspace import Workspace

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "medseqft"  # the same data, the same file
from matplotlib import pyplot as plt  # noqa: E402

WINDOW = 100  # steps of the running mean


def curves(workspace: Path, job: str) -> dict[str, dict[int, float]]:
    """Loss by name and step; where a run went on from a checkpoint, the later value."""
    events, _ = control.job(Workspace.open(workspace), job).events(0)
    found: dict[str, dict[int, float]] = {}
    for event in events:
        for name, value in event.losses.items():
            if event.step is not None and value is not None:
                found.setdefault(name, {})[event.step] = value
    return found


def main(workspace: Path, job: str, picture: Path) -> None:
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for name, points in curves(workspace, job).items():
        steps, values = (np.array(part) for part in zip(*sorted(points.items()), strict=True))
        bins = steps // WINDOW
        means = [values[bins == number].mean() for number in np.unique(bins)]
        axes.plot(steps, values, lw=0.3, alpha=0.35, color="#3a7bd5")
        axes.plot(
            (np.unique(bins) + 0.5) * WINDOW, means, lw=1.6, color="#1b4f9c", label=f"{name}, mean of {WINDOW} steps"
        )
        print(f"{name}: first {WINDOW} steps {means[0]:.4f}, last {means[-1]:.4f}")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
