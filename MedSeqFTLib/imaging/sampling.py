"""Training batches. Every batch is a function of (seed, step) alone, so a resumed run sees exactly the same data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import get_track_meta, set_track_meta
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from numpy.typing import NDArray
from torch import Tensor

from MedSeqFTLib.imaging.cache import Index3, PreparedCase

FOREGROUND_SHARE = 2 / 3  # of the patches; the rest lie anywhere
IMAGE, LABELS = "image", "labels"


@dataclass(frozen=True)
class Batch:
    """One training batch.

    image: float32 [batch, 1, z, y, x] in about -1..1; labels: class indices, uint8 [batch, 1, z, y, x];
    known: bool [batch, classes], False for classes that a sample's reference does not speak of.
    """

    image: Tensor
    labels: Tensor
    known: Tensor


def augmentation(patch: Index3) -> Compose:
    """Small rotations, scalings and intensity changes. No mirroring: it would teach that left is right."""
    both = (IMAGE, LABELS)
    return Compose(
        [
            RandAffined(
                both,
                prob=0.5,
                rotate_range=(0.26,) * 3,  # radians, 15 degrees
                scale_range=(0.15,) * 3,
                translate_range=(2,) * 3,  # voxels
                spatial_size=patch,
                mode=("bilinear", "nearest"),
                padding_mode="border",
                cache_grid=True,
                allow_missing_keys=True,  # nobody may want the labels
            ),
            RandScaleIntensityd(IMAGE, factors=0.2, prob=0.5),
            RandShiftIntensityd(IMAGE, offsets=0.15, prob=0.5),
            RandAdjustContrastd(IMAGE, gamma=(0.75, 1.4), prob=0.3),
            RandGaussianNoised(IMAGE, prob=0.2, std=0.06),
        ]
    )


class PatchSampler:
    """Patches of labelled cases, balanced over the labels of each case; every case is seen equally often."""

    def __init__(
        self, cases: Sequence[PreparedCase], patch: Index3, batch_size: int, seed: int, augment: bool = True
    ) -> None:
        self.patch = patch
        self._cases = cases
        self._batch_size = batch_size
        self._seed = seed
        self._augment = augmentation(patch) if augment else None

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        cases = self._drawn(step)
        samples = [self._sample(index, case) for index, case in cases.items()]
        labels = torch.stack([plain(sample[LABELS]).to(torch.uint8) for sample in samples])
        known = torch.stack([torch.from_numpy(case.known) for case in cases.values()])
        return Batch(_images(samples), labels, known)

    def images(self, step: int) -> Tensor:
        """The images of a step's batch, to the last bit; no time is spent on its labels."""
        return _images([self._sample(index, case, labels=False) for index, case in self._drawn(step).items()])

    def _drawn(self, step: int) -> dict[int, PreparedCase]:
        """The samples of a step, by number, and the case that each is cut from."""
        numbers = range(step * self._batch_size, (step + 1) * self._batch_size)
        return {n: self._cases[in_shuffled_order(n, len(self._cases), self._seed)] for n in numbers}

    def _sample(self, index: int, case: PreparedCase, labels: bool = True) -> dict[str, Tensor]:
        random = np.random.default_rng([self._seed, index])
        start = self._start(case, random)
        sample = {IMAGE: torch.from_numpy(case.image_crop(start, self.patch))[None]}
        if labels:
            sample[LABELS] = torch.from_numpy(case.label_crop(start, self.patch))[None]
        if self._augment is not None:
            self._augment.set_random_state(seed=int(random.integers(2**31)))
            with _without_history():
                sample = self._augment(sample)
        return sample

    def _start(self, case: PreparedCase, random: np.random.Generator) -> Index3:
        if case.foreground and random.random() < FOREGROUND_SHARE:
            positions = case.foreground[list(case.foreground)[random.integers(len(case.foreground))]]
            centre: NDArray[np.int32] = positions[random.integers(len(positions))]
            jitter = random.integers(-(self.patch[0] // 8), self.patch[0] // 8 + 1, 3)
            start = centre + jitter - np.array(self.patch) // 2
            return clamped(start, case.shape, self.patch)
        return random_start(case.shape, self.patch, random.random(3))


@contextmanager
def _without_history() -> Iterator[None]:
    """MONAI's transforms keep a record of themselves with every tensor; without it they take two thirds of the time."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


def _images(samples: Sequence[dict[str, Tensor]]) -> Tensor:
    return torch.stack([plain(sample[IMAGE]) for sample in samples])


def plain(tensor: Tensor) -> Tensor:
    """MONAI's transforms may return their own tensor class; training wants the plain one."""
    return tensor.as_subclass(Tensor).contiguous()


def in_shuffled_order(index: int, count: int, seed: int) -> int:
    """The item at `index` of an endless sequence in which each pass over `count` items is shuffled anew."""
    epoch, place = divmod(index, count)
    return int(np.random.default_rng([seed, epoch, count]).permutation(count)[place])


def random_start(shape: Index3, patch: Index3, where: NDArray[np.float64]) -> Index3:
    """The crop at relative position `where` (0..1 per axis z, y, x); a small volume is centred in the patch."""
    free = np.array(shape) - np.array(patch)
    start = np.where(free > 0, np.floor(where * (free + 1)), free // 2)
    return tuple(int(s) for s in start)  # type: ignore[return-value]


def clamped(start: NDArray[np.int64], shape: Index3, patch: Index3) -> Index3:
    """Move a crop inside the volume where it fits; a small volume is centred in the patch."""
    free = np.array(shape) - np.array(patch)
    inside = np.where(free > 0, np.clip(start, 0, np.maximum(free, 0)), free // 2)
    return tuple(int(s) for s in inside)  # type: ignore[return-value]
