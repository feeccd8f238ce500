"""How many passes MDS needs: racing against the plain 1000 passes of every case, on real scans.

For each task, the starter scores every training case in all passes, twice 1000 by default, once and for all; the matrix
of losses is kept, and an interrupted run goes on where it stopped. Then estimators are replayed on it, on the passes as
they were drawn and on many orders of them:

- the reference: the K lowest means of the first half of the passes;
- the same from the second half, which shows how far the reference agrees with itself;
- racing at two caps, on the reference's own passes and on those of the second half;
- the same number of passes that racing took, but shared out equally.

python Testing/Benchmarks/selection_passes.py DATA FOLDER [--tasks ...] [--cases 20] [--passes 2000] [--z 2.5]

DATA holds the data sets that Resources/Models/medseqft-starter.toml names. FOLDER keeps the workspace and the matrices.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from starter_value import HELD_OUT, parent

from MedSeqFTLib.imaging.cache import PreparedCase, cache_key
from MedSeqFTLib.imaging.decathlon import import_cases, read_data_set, split
from MedSeqFTLib.learning.data import PreparedData, make_plan
from MedSeqFTLib.learning.selection.racing import Race, Rules, Verdict
from MedSeqFTLib.learning.selection.scoring import PASSES_AT_ONCE, PretextScorer, pretext_losses
from MedSeqFTLib.learning.selection.size import buffer_size
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.models.compute import choose_compute
from MedSeqFTLib.models.weights import load_backbone, load_pretext
from MedSeqFTLib.workspace.schema import Case, Role
from MedSeqFTLib.workspace.workspace import Workspace

SEED = 0
AT_ONCE = 10 * PASSES_AT_ONCE  # written to the disk together
HEAD = (
    *("Task", "K", "Estimator", "Passes a case", "Times fewer", "Agreement, other passes, as drawn"),
    *("mean of the orders", "same passes", "Differing picks in the tie zone", "Regret (deviations between cases)"),
)
Matrix = NDArray[np.float64]


def workspace_with(data: Path, folder: Path, tasks: Sequence[str], cases: int) -> Workspace:
    """A workspace with the training side of every task, at most so many cases of each (0: all)."""
    path = folder / "workspace"
    workspace = Workspace.open(path) if (path / "workspace.json").exists() else Workspace.create(path)
    for name in tasks:
        data_set = read_data_set(data / name, name)
        train = [pair for pair in split(data_set.pairs, None, HELD_OUT[name], 0) if pair[1] is Role.TRAIN]
        for _ in import_cases(workspace, data_set.task, train[: cases or None]):
            pass
    return workspace


def measure(workspace: Workspace, task: str, cases: int, passes: int, folder: Path, precision: str) -> Path:
    """Compute what is missing of the task's matrix [cases, passes] and return its file."""
    settings, compute = AdaptSettings(), choose_compute("auto", precision)
    foundation = parent(workspace, "starter", 0)
    train = sorted(workspace.cases(task, Role.TRAIN), key=lambda case: case.id)[: cases or None]
    plan = make_plan(workspace, workspace.task(task), train, None, foundation, settings)
    assert foundation.pretext is not None
    scorer = PretextScorer(
        backbone=load_backbone(workspace, foundation),
        pretext=load_pretext(workspace, foundation),
        description=foundation.pretext,
        seed=SEED,
        patch=foundation.pretext.crop or plan.patch,
        compute=compute,
    )
    key = cache_key(plan, [case.image_sha256 for case in train], foundation.files, SEED, compute.precision)
    path = folder / f"{task}-{len(train)}x{passes}-{key}.npy"
    print(f"{task}: {len(train)} cases, crops of {plan.patch}, {compute} -> {path.name}", flush=True)
    _fill(path, passes, train, PreparedData(workspace).cases(train, plan), scorer)
    return path


def _fill(
    path: Path, passes: int, train: Sequence[Case], prepared: Sequence[PreparedCase], scorer: PretextScorer
) -> None:
    shape = (len(train), passes)
    if not path.exists():
        np.save(path, np.full(shape, np.nan))
    losses = np.load(path, mmap_mode="r+")
    for number, (case, image) in enumerate(zip(train, prepared, strict=True)):
        for first in range(0, passes, AT_ONCE):
            some = range(first, min(first + AT_ONCE, passes))
            if np.isnan(losses[number, some.start : some.stop]).any():
                losses[number, some.start : some.stop] = pretext_losses({case.id: image}, scorer, some)[case.id]
                losses.flush()
        print(f"  {number + 1} of {len(train)}: {case.id} {losses[number].mean():.4f}", flush=True)


@dataclass(frozen=True)
class Found:
    """One estimate of the K lowest: which, the passes that it took on average, and which were ties."""

    kept: frozenset[int]
    passes: float
    ties: frozenset[int] = frozenset()


def lowest(losses: Matrix, keep: int) -> Found:
    """With every pass of every case."""
    return Found(frozenset(map(int, np.argsort(losses.mean(axis=1))[:keep])), losses.shape[1])


def raced(losses: Matrix, keep: int, cap: int, z: float) -> Found:
    """As the product does."""
    rows = losses.tolist()
    race = Race([str(i) for i in range(len(rows))], Rules(keep=keep, cap=cap, z=z, unit=PASSES_AT_ONCE))
    verdicts = race.run(lambda case, passes: rows[int(case)][passes.start : passes.stop]).values()
    return Found(_cases(verdicts, "kept"), float(np.mean([len(v.losses) for v in verdicts])), _cases(verdicts, "tie"))


def _cases(verdicts: Sequence[Verdict], what: str) -> frozenset[int]:
    return frozenset(int(verdict.case) for verdict in verdicts if getattr(verdict, what))


@dataclass
class Row:
    """An estimator over all replays; the first replay has the passes as they were drawn."""

    same: list[Found]
    other: list[Found]
    races: bool = False

    def text(self, references: Sequence[Found], means: Matrix) -> str:
        passes = np.mean([found.passes for found in (*self.same, *self.other)])
        times = references[0].passes / passes
        agreements = [_agreement(self.other[0], references[0])]
        agreements += [
            float(np.mean([_agreement(*pair) for pair in zip(some, references, strict=True)])) if some else math.nan
            for some in (self.other, self.same)
        ]
        shown = " | ".join("" if math.isnan(value) else f"{value:.3f}" for value in agreements)
        return f"{passes:.0f} | {times:.1f} | {shown} | {self._tied(references)} | {self._regret(means):.3f}"

    def _tied(self, references: Sequence[Found]) -> str:
        """Of the cases that only one side keeps: how many lie in the tie zone that was reported."""
        pairs = [pair for some in (self.same, self.other) if some for pair in zip(some, references, strict=True)]
        differing = [(case in found.ties) for found, reference in pairs for case in found.kept ^ reference.kept]
        return f"{np.mean(differing):.2f}" if differing and self.races else ""

    def _regret(self, means: Matrix) -> float:
        """How much higher the kept cases' mean loss is than the lowest possible, in deviations between cases."""
        best = np.sort(means)[: len(self.other[0].kept)].mean()
        return float(np.mean([means[list(found.kept)].mean() - best for found in self.other]) / means.std(ddof=1))


def _agreement(first: Found, second: Found) -> float:
    return len(first.kept & second.kept) / len(second.kept)


def replays(losses: Matrix, count: int) -> Iterator[tuple[Matrix, Matrix]]:
    """Halves of the passes: as drawn, then in random orders. The orders are the same for all cases."""
    random, half = np.random.default_rng(0), losses.shape[1] // 2
    for number in range(count):
        order = random.permutation(2 * half) if number else np.arange(2 * half)
        yield losses[:, order[:half]], losses[:, order[half:]]


def rows(losses: Matrix, keep: int, caps: Sequence[int], z: float, count: int) -> list[str]:
    """The lines of one task and K."""
    half = losses.shape[1] // 2
    references, again = [], Row([], [])
    racing, equal = {cap: Row([], [], races=True) for cap in caps}, {cap: Row([], []) for cap in caps}
    for first, second in replays(losses, count):
        references.append(lowest(first, keep))
        again.other.append(lowest(second, keep))
        for cap in caps:
            for found, plain, part in (
                (racing[cap].same, equal[cap].same, first),
                (racing[cap].other, equal[cap].other, second),
            ):
                found.append(raced(part, keep, cap, z))
                plain.append(lowest(part[:, : round(found[-1].passes)], keep))
    named = {f"{half} passes again": again}
    for cap in caps:
        named |= {f"racing, cap {cap}": racing[cap], f"as many passes (cap {cap}), shared equally": equal[cap]}
    return [f"{name} | {row.text(references, losses.mean(axis=1))}" for name, row in named.items()]


def spread(losses: Matrix) -> str:
    """How hard the order is to find."""
    noise = losses - losses.mean(axis=1, keepdims=True)
    within, between = noise.std(axis=1).mean(), losses.mean(axis=1).std(ddof=1)
    pairs = np.corrcoef(noise)[np.triu_indices(len(noise), 1)]
    return (
        f"deviation between cases {between / within:.2f} of that between passes, noise correlation {pairs.mean():.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="+", default=list(HELD_OUT), choices=list(HELD_OUT))
    parser.add_argument("--cases", type=int, default=0, help="of each task at most; 0: all training cases")
    parser.add_argument("--passes", type=int, default=2000, help="over each case; the reference is the first half")
    parser.add_argument("--replays", type=int, default=100)
    parser.add_argument("--z", type=float, default=AdaptSettings().selection_z)
    parser.add_argument("--precision", default="float32", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    workspace = workspace_with(options.data, options.folder, options.tasks, options.cases)
    half = options.passes // 2
    caps = sorted({half, min(half, AdaptSettings().selection_passes)}, reverse=True)
    lines, notes = [], []
    for task in options.tasks:
        path = measure(workspace, task, options.cases, options.passes, options.folder, options.precision)
        losses = np.load(path)
        notes.append(f"{task}: {spread(losses)}.")
        for keep in sorted({buffer_size(len(losses), AdaptSettings()), math.ceil(len(losses) / 4)}):
            found = rows(losses, keep, caps, options.z, options.replays)
            lines += [f"| {task} | {keep} of {len(losses)} | {line} |" for line in found]
    head = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    print("\n".join(["", *head, *lines, "", f"Racing with z {options.z:g}.", *notes]))


if __name__ == "__main__":
    main()
