"""Passes of MDS a second: batched, as the product scores cases, against one by one.

python Testing/Benchmarks/pretext_passes.py [--passes 32] [--rounds 3] [--device auto]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import in_turns, machine, smooth_scan

from MedSeqFTLib.imaging.cache import Prepared, PreparedCase, write_prepared
from MedSeqFTLib.imaging.preprocessing import to_levels
from MedSeqFTLib.learning.selection import PASSES_AT_ONCE, PretextScorer
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.models.compute import choose_compute
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.models.weights import frozen
from MedSeqFTLib.workspace.networks import MaskedReconstructionDescription, ResidualUNetDescription

NETWORK, PRETEXT = ResidualUNetDescription(), MaskedReconstructionDescription()
PATCH = (48, 48, 48)  # voxels, z, y, x


def scan(folder: Path) -> PreparedCase:
    """One prepared case."""
    write_prepared(folder, Prepared(to_levels(smooth_scan((96, 96, 96)).astype("float32"), -1000, 1000)))
    return PreparedCase(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    compute = choose_compute(options.device)
    scorer = PretextScorer(
        backbone=frozen(build_backbone(NETWORK, 0), compute.device),
        pretext=frozen(build_pretext(PRETEXT, NETWORK, 0), compute.device),
        description=PRETEXT,
        settings=AdaptSettings(),
        seed=0,
        patch=PATCH,
        compute=compute,
    )
    with tempfile.TemporaryDirectory() as folder:
        case = scan(Path(folder))

        def passes(at_once: int) -> list[float]:
            starts = range(0, options.passes, at_once)
            return [loss for first in starts for loss in scorer.losses(case, range(first, first + at_once))]

        difference = max(abs(a - b) / a for a, b in zip(passes(1), passes(PASSES_AT_ONCE), strict=True))
        sizes = sorted({2, PASSES_AT_ONCE, 8})
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
