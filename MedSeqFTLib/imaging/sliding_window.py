"""Sliding-window prediction in bounded memory.

Windows are visited slab by slab along z. As soon as no later window can touch a plane, its classes are decided and its
class scores are forgotten: at no time are there scores for more planes than one patch is deep. Window positions and
gaussian weights are MONAI's (`sliding_window_inference` with mode "gaussian"), so the decisions are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import torch
from monai.data.utils import compute_importance_map
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from MedSeqFTLib.imaging.cache import Index3
from MedSeqFTLib.imaging.confidence import Confidence

PLANES_AT_ONCE = 8  # decided together: enough to be fast, few enough to need no memory

WINDOWS_AT_ONCE = 2  # for torch's convolutions, two small samples together take less time than one alone on a CPU

#: [windows, 1, z, y, x] network input -> [windows, classes, z, y, x] class scores.
Predictor = Callable[[Tensor], Tensor]
Place = tuple[slice, slice]  # of a window in its slab, y and x


def window_starts(side: int, patch: int, overlap: float) -> list[int]:
    """First voxels of the windows along one axis; `side` is at least `patch`."""
    interval = max(int(patch * (1 - overlap)), 1)
    return sorted({min(start, side - patch) for start in range(0, side - patch + interval, interval)})


def window_count(shape: Index3, patch: Index3, overlap: float) -> int:
    """How many windows a volume of `shape` (z, y, x) takes."""
    padded = [max(side, p) for side, p in zip(shape, patch, strict=True)]
    return int(np.prod([len(window_starts(side, p, overlap)) for side, p in zip(padded, patch, strict=True)]))


def predict_classes(
    predictor: Predictor,
    image: NDArray[np.float32],
    patch: Index3,
    *,
    output_shape: Index3 | None = None,
    overlap: float = 0.5,
    fill: float = -1.0,
    device: torch.device | str = "cpu",
    after_window: Callable[[], None] = lambda: None,
    confidence: Confidence | None = None,
) -> NDArray[np.uint8]:
    """Class indices, uint8 [z, y, x] of `output_shape`, from network values [z, y, x].

    Args:
        output_shape: a grid over the same extent (corners aligned) onto which the averaged class scores are
            interpolated before the decision; None: the grid of `image`.
        overlap: of neighbouring windows, 0 to below 1.
        fill: value around an image that is smaller than the patch.
        after_window: called after each window, for progress and cancel (it may raise).
        confidence: is told the mean class scores of every decided plane.
    """
    source, inside = _padded(torch.from_numpy(np.ascontiguousarray(image)), patch, fill)
    planes = _Decider(inside, output_shape or image.shape, confidence)
    weight = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125, device=device).clamp(min=1e-3)
    starts = [window_starts(side, p, overlap) for side, p in zip(source.shape, patch, strict=True)]
    scores = total = None
    done = 0
    with torch.inference_mode():
        for z in starts[0]:
            if scores is not None and total is not None:
                planes.take(scores[:, : z - done], total[: z - done])
                _advance(scores, total, z - done)
                done = z
            slab = source[z : z + patch[0]]
            for places in _together(
                [(slice(y, y + patch[1]), slice(x, x + patch[2])) for y, x in product(*starts[1:])]
            ):
                windows = torch.stack([slab[:, rows, columns] for rows, columns in places])
                results = predictor(windows[:, None].to(device)).float()
                if scores is None or total is None:
                    scores = results.new_zeros((results.shape[1], patch[0], *source.shape[1:]))
                    total = results.new_zeros((patch[0], *source.shape[1:]))
                for result, (rows, columns) in zip(results, places, strict=True):
                    scores[:, :, rows, columns].addcmul_(result, weight)
                    total[:, rows, columns] += weight
                    after_window()
        assert scores is not None and total is not None
        planes.take(scores, total)
    return planes.classes


def _together(places: Sequence[Place]) -> Iterator[Sequence[Place]]:
    """Some windows at a time."""
    for first in range(0, len(places), WINDOWS_AT_ONCE):
        yield places[first : first + WINDOWS_AT_ONCE]


def _padded(image: Tensor, patch: Index3, fill: float) -> tuple[Tensor, tuple[slice, slice, slice]]:
    """The image centred in a volume that holds a patch, and where it lies there."""
    missing = [max(p - side, 0) for side, p in zip(image.shape, patch, strict=True)]
    before = [m - m // 2 for m in missing]  # as in sampling.clamped: floor(-m / 2) voxels outside
    pads = [pad for m, b in zip(reversed(missing), reversed(before), strict=True) for pad in (b, m - b)]
    z, y, x = (slice(b, b + side) for b, side in zip(before, image.shape, strict=True))
    return (functional.pad(image, pads, value=fill) if any(missing) else image), (z, y, x)


def _advance(scores: Tensor, total: Tensor, planes: int) -> None:
    """Forget the first planes: move the rest to the front, in place, and clear what follows."""
    for volume in (*scores, total):
        volume[:-planes] = volume[planes:].clone()
        volume[-planes:] = 0


class _Decider:
    """Takes finished planes of class scores in order of z and decides the classes of the output planes."""

    def __init__(self, inside: tuple[slice, slice, slice], output_shape: Index3, confidence: Confidence | None) -> None:
        self.classes = np.empty(output_shape, np.uint8)
        self._confidence = confidence
        self._inside = inside
        self._depth = inside[0].stop - inside[0].start
        self._same_grid = tuple(s.stop - s.start for s in inside) == tuple(output_shape)
        self._seen = -inside[0].start  # index in the unpadded image of the next plane to come
        self._written = 0
        self._last: Tensor | None = None

    def take(self, scores: Tensor, total: Tensor) -> None:
        """scores: weighted sums [classes, planes, y, x]; total: the weights' sums [planes, y, x]."""
        first = max(-self._seen, 0)
        last = min(self._depth - self._seen, scores.shape[1])
        self._seen += scores.shape[1]
        if first >= last:
            return
        _, y, x = self._inside
        scores, total = scores[:, first:last, y, x], total[first:last, y, x]
        if self._same_grid:
            self._decide_directly(scores, total)
        else:
            self._decide_interpolated(scores, total)

    def _decide_directly(self, scores: Tensor, total: Tensor) -> None:
        """The weights are positive and the same for all classes, so they do not change which class is largest."""
        parts = zip(scores.split(PLANES_AT_ONCE, dim=1), total.split(PLANES_AT_ONCE), strict=True)
        for planes, weights in parts:
            self.classes[self._written : self._written + planes.shape[1]] = _largest(planes)
            self._written += planes.shape[1]
            if self._confidence:
                self._confidence.take(planes, weights)

    def _decide_interpolated(self, scores: Tensor, total: Tensor) -> None:
        finished = min(self._seen, self._depth)  # planes of the unpadded image seen so far
        first = finished - scores.shape[1]
        scale = self._depth / self.classes.shape[0]
        while self._written < self.classes.shape[0]:
            position = min(max((self._written + 0.5) * scale - 0.5, 0.0), self._depth - 1.0)
            below = int(position)
            above = min(below + 1, self._depth - 1)
            if above >= finished:
                break
            planes = [self._plane(scores, total, index - first) for index in (below, above)]
            mixed = torch.lerp(planes[0], planes[1], position - below)
            fine = functional.interpolate(mixed[None], self.classes.shape[1:], mode="bilinear", align_corners=False)
            self.classes[self._written] = _largest(fine[0])
            self._written += 1
            if self._confidence:
                self._confidence.take(fine[0])
        self._last = self._plane(scores, total, scores.shape[1] - 1).clone()

    def _plane(self, scores: Tensor, total: Tensor, index: int) -> Tensor:
        """Mean class scores of one plane; index -1 is the last plane of the slab before."""
        if index < 0:
            assert index == -1 and self._last is not None
            return self._last
        return scores[:, index] / total[index]


def _largest(scores: Tensor) -> NDArray[np.uint8]:
    """The class with the largest score. On a CPU `max` is several times faster than `argmax` along the first axis."""
    return scores.max(0).indices.to(torch.uint8).cpu().numpy()
