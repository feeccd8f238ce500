"""The pretext loss of M_0 on a case, pass by pass.

Common random numbers: pass i uses the same relative crop position and the same mask seed for every case, so that cases
are compared and not draws. A loss is a function of its case and its pass alone: passes can be computed in any order, in
another run or on another machine; on CPUs of one kind, with as many threads, they come out the same to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from MedSeqFTLib.errors import JobError
from MedSeqFTLib.imaging.cache import Index3, PreparedCase
from MedSeqFTLib.imaging.sampling import random_start
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.pretext.base import Pretext
from MedSeqFTLib.models.weights import frozen
from MedSeqFTLib.workspace.networks import PretextSpec

PASSES_AT_ONCE = 5
_LARGE = 96**3  # voxels; larger crops are computed one by one, to save memory


@dataclass(frozen=True)
class PretextScorer:
    """M_0 with its pretext head, and everything else that a loss depends on. `patch`: voxels, z, y, x.

    `one_by_one` needs less memory, and changes no more than the last bits of a loss.
    """

    backbone: Backbone
    pretext: Pretext
    description: PretextSpec
    seed: int
    patch: Index3
    compute: Compute
    one_by_one: bool = False

    def __post_init__(self) -> None:
        for module in (self.backbone, self.pretext):
            frozen(module, self.compute.device)

    @property
    def at_once(self) -> int:
        """Passes that belong together, and with `one_by_one` still do: a race's rounds depend on it."""
        return passes_at_once(self.patch)

    def losses(self, case: PreparedCase, passes: range) -> list[float]:
        """The pretext loss of some passes over a case.

        Passes are always computed in the same whole batches, whichever of them are asked for: how many samples a batch
        has changes the last bits of a result.
        """
        first = passes.start - passes.start % self.at_once
        every = [loss for start in range(first, passes.stop, self.at_once) for loss in self._batch(case, start)]
        return every[passes.start - first : passes.stop - first]

    def _batch(self, case: PreparedCase, first: int) -> list[float]:
        passes = range(first, first + self.at_once)
        parts = [range(i, i + 1) for i in passes] if self.one_by_one else [passes]
        return [loss for part in parts for loss in self._together(case, part)]

    def _together(self, case: PreparedCase, passes: range) -> list[float]:
        crops = random_crops(case, self.patch, self.seed, passes).to(self.compute.device)
        with torch.inference_mode(), self.compute.autocast():
            loss = self.pretext(self.backbone, crops, [(self.seed, i) for i in passes])
        return [float(value) for value in loss]


def pretext_losses(cases: Mapping[str, PreparedCase], scorer: PretextScorer, passes: range) -> dict[str, list[float]]:
    """The losses of some passes over some cases: one shard. Shards put together are what one run computes.

    Raises:
        JobError: a loss is infinite or not a number.
    """
    losses = {name: scorer.losses(case, passes) for name, case in cases.items()}
    for name, values in losses.items():
        for i, value in zip(passes, values, strict=True):
            if not math.isfinite(value):
                raise JobError(f"The pretext loss of case {name} is {value} in pass {i}: MDS cannot compare it.")
    return losses


def passes_at_once(patch: Index3) -> int:
    """How many crops of this size (voxels, z, y, x) make a batch."""
    return PASSES_AT_ONCE if math.prod(patch) <= _LARGE else 1


def random_crops(case: PreparedCase, patch: Index3, seed: int, passes: range) -> Tensor:
    """The crops of some passes, float32 [passes, 1, z, y, x]: uniform over all positions inside the volume."""
    starts = [random_start(case.shape, patch, np.random.default_rng([seed, i, 1]).random(3)) for i in passes]
    return torch.stack([torch.from_numpy(case.image_crop(start, patch))[None] for start in starts])
