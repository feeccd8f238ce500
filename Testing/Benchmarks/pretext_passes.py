"""Passes of MDS a second: batched, as the product scores cases, against one by one.

python Testing/Benchmarks/pretext_passes.py [--passes 40] [--rounds 3] [--device auto]
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common import in_turns, machine, smooth_scan

from MedSeqFTLib.imaging.cache import Prepared, PreparedCase, write_prepared
from MedSeqFTLib.imaging.preprocessing import to_levels
from MedSeqFTLib.learning.selection.scoring import PASSES_AT_ONCE, PretextScorer
from MedSeqFTLib.models.compute import choose_compute
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.workspace.networks import MaskedReconstructionDescription, ResidualUNetDescription

NETWORK, PRETEXT = ResidualUNetDescription(), MaskedReconstructionDescription()
PATCH = (48, 48, 48)  # voxels, z, y, x


@dataclass(frozen=True)
class Sized(PretextScorer):
    """With batches of any size."""

    at_once: int = 1


def scan(folder: Path) -> PreparedCase:
    """One prepared case."""
    write_prepared(folder, Prepared(to_levels(smooth_scan((96, 96, 96)).astype("float32"), -1000, 1000)))
    return PreparedCase(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    compute = choose_compute(options.device)
    backbone, pretext = build_backbone(NETWORK, 0), build_pretext(PRETEXT, NETWORK, 0)
    with tempfile.TemporaryDirectory() as folder:
        case = scan(Path(folder))

        def passes(at_once: int) -> list[float]:
            scorer = Sized(backbone, pretext, PRETEXT, 0, PATCH, compute, at_once)
            return scorer.losses(case, range(options.passes))

        difference = max(abs(a - b) / a for a, b in zip(passes(1), passes(PASSES_AT_ONCE), strict=True))
        sizes = sorted({2, 4, PASSES_AT_ONCE, 8, 10})
        seconds = in_turns({str(size): lambda size=size: passes(size) for size in (1, *sizes)}, options.rounds)
    print(f"{machine()}; {compute}; crops of {PATCH}")
    print(f"one by one: {options.passes / seconds['1']:.2f} passes a second")
    for size in sizes:
        ours = " (the product's)" if size == PASSES_AT_ONCE else ""
        faster = seconds["1"] / seconds[str(size)]
        print(f"{size} at once{ours}: {options.passes / seconds[str(size)]:.2f}, {faster:.2f} times")
    print(f"largest relative difference of a loss: {difference:.1e}")


if __name__ == "__main__":
    main()
