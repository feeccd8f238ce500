"""What kind of image a volume is, in eight numbers: to find the one that is most unlike those already accepted.

Our choice, simple on purpose, and apart from MDS, which asks the foundation model: the logarithms of the three lengths
in mm, the shortest first, and five percentiles of the intensity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

PERCENTILES = (5.0, 25.0, 50.0, 75.0, 95.0)
_LOOKED_AT = 100_000  # voxels, about: regularly spaced ones tell enough, and take no time
_AT_ONCE = 256  # candidates that are compared with all accepted ones

Descriptor = tuple[float, ...]


def describe(array: NDArray[np.generic], spacing: Sequence[float]) -> Descriptor:
    """Of voxels [z, y, x] with a spacing x, y, z in mm."""
    seen = looked_at(array)
    lengths = sorted(side * width for side, width in zip(array.shape[::-1], spacing, strict=True))
    return *map(float, np.log(lengths)), *map(float, np.percentile(seen, PERCENTILES))


def looked_at(array: NDArray[np.generic]) -> NDArray[np.float64]:
    """Regularly spaced voxels, which tell of the intensity of all of them in no time."""
    step = max(1, round((array.size / _LOOKED_AT) ** (1 / 3)))
    return np.asarray(array[::step, ::step, ::step], np.float64)


def describe_image(image: sitk.Image) -> Descriptor:
    """Of a 3D image."""
    return describe(sitk.GetArrayViewFromImage(image), image.GetSpacing())


def distances(candidates: Sequence[Descriptor], accepted: Sequence[Descriptor]) -> list[float]:
    """From each candidate to the nearest of the accepted ones, which must not be none.

    A number counts in units of its standard deviation over all of these volumes; one that never differs is left out.
    """
    everything = np.array([*candidates, *accepted])
    spread = everything.std(0)
    scaled = (everything - everything.mean(0))[:, spread > 0] / spread[spread > 0]
    ours, theirs = scaled[: len(candidates)], scaled[len(candidates) :]
    some = (ours[first : first + _AT_ONCE] for first in range(0, len(ours), _AT_ONCE))
    return [float(distance) for part in some for distance in _to_the_nearest(part, theirs)]


def _to_the_nearest(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """By a product of matrices, which finds the nearest of thousands in no time; its rounding is not taken over."""
    nearest = np.argmin((theirs**2).sum(1) - 2 * ours @ theirs.T, axis=1)
    return np.asarray(np.linalg.norm(theirs[nearest] - ours, axis=1))
