"""MDS, maximum data similarity: which training cases are most like what the foundation model was trained on.

Every case goes through M_0 and its pretext head many times, each time with another crop; the cases with the lowest mean
loss form the buffer (second-hand account of arXiv 2509.06096). All numbers here are our choices: see docs/method.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from MedSeqFTLib.imaging.cache import Index3, PreparedCase
from MedSeqFTLib.imaging.sampling import random_start
from MedSeqFTLib.learning.progress import Reporter
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.pretext.base import Pretext
from MedSeqFTLib.models.weights import frozen
from MedSeqFTLib.workspace.networks import PretextSpec
from MedSeqFTLib.workspace.schema import Selection, SelectionScore

PASSES_AT_ONCE = 4


def buffer_size(cases: int, settings: AdaptSettings) -> int:
    """K: a share of the task's training cases, but at least a minimum, and never more than there are."""
    return min(cases, max(settings.buffer_minimum, math.ceil(settings.buffer_share * cases)))


@dataclass(frozen=True)
class PretextScorer:
    """M_0 with its pretext head, and everything else that a score depends on. `patch`: voxels, z, y, x."""

    backbone: Backbone
    pretext: Pretext
    description: PretextSpec
    settings: AdaptSettings
    seed: int
    patch: Index3
    compute: Compute

    def losses(self, case: PreparedCase, passes: range) -> list[float]:
        """The pretext loss of some passes over a case.

        Common random numbers: pass i uses the same relative crop position and the same seed for every case, so that
        cases are compared, not draws. No pass depends on another case or on the order of cases.
        """
        crops = [torch.from_numpy(case.image_crop(self._start(case, i), self.patch))[None] for i in passes]
        with torch.inference_mode(), self.compute.autocast():
            loss = self.pretext(
                self.backbone, torch.stack(crops).to(self.compute.device), [(self.seed, i) for i in passes]
            )
        return [float(value) for value in loss]

    def _start(self, case: PreparedCase, index: int) -> Index3:
        return random_start(case.shape, self.patch, np.random.default_rng([self.seed, index, 1]).random(3))


def select_buffer(
    cases: Mapping[str, PreparedCase],
    scorer: PretextScorer | None,
    settings: AdaptSettings,
    seed: int,
    reporter: Reporter,
) -> Selection:
    """Choose the buffer of a task; with a scorer every case gets a score, and the lowest are kept."""
    size = {"none": 0, "all": len(cases)}.get(settings.selection, buffer_size(len(cases), settings))
    losses: Mapping[str, Sequence[float]] = {}
    if scorer is not None:
        losses = pretext_losses(cases, scorer, reporter)
        order = sorted(cases, key=lambda name: float(np.mean(losses[name])))
    else:
        order = [list(cases)[i] for i in np.random.default_rng(seed).permutation(len(cases))]
    kept = set(order[:size])
    return Selection(
        method=settings.selection,
        size=size,
        passes=settings.selection_passes if losses else 0,
        pretext=scorer.description if scorer else None,
        patch=scorer.patch if scorer else None,
        seed=seed,
        scores=tuple(_score(name, losses.get(name, ()), name in kept) for name in order),
    )


def pretext_losses(
    cases: Mapping[str, PreparedCase], scorer: PretextScorer, reporter: Reporter
) -> dict[str, list[float]]:
    """The pretext loss of every pass over every case."""
    for module in (scorer.backbone, scorer.pretext):
        frozen(module, scorer.compute.device)
    passes = scorer.settings.selection_passes
    reporter.stage("MDS selection", len(cases) * passes)
    losses: dict[str, list[float]] = {}
    for number, (name, case) in enumerate(cases.items()):
        losses[name] = []
        for first in range(0, passes, PASSES_AT_ONCE):
            some = range(first, min(first + PASSES_AT_ONCE, passes))
            losses[name] += scorer.losses(case, some)
            reporter.step(number * passes + some.stop)
    return losses


def _score(case: str, losses: Sequence[float], kept: bool) -> SelectionScore:
    if not losses:
        return SelectionScore(case=case, loss=None, standard_error=None, passes=0, kept=kept)
    error = float(np.std(losses, ddof=1) / math.sqrt(len(losses))) if len(losses) > 1 else None
    return SelectionScore(case=case, loss=float(np.mean(losses)), standard_error=error, passes=len(losses), kept=kept)
