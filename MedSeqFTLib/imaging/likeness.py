"""How alike two scans are, whatever became of their files: another format or voxel type, axes stored in another order,
another spacing, cropped or padded, other units of intensity, some noise.

Both are sampled on one lattice in space, only fine structure is kept (what people have in common is coarse), and the
best correlation over all shifts counts: 1 for the same scan. A place in the scanner is not asked for, the direction of
the axes is: a scan that was turned or mirrored in space is another one to this.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float32]
_FINE = 2.0  # cells; structure that is coarser is taken out
_OVERLAP = 0.55  # share of the larger of the two that must lie on the other
_FEWEST = 200  # cells below which nothing is told
_LOOKED_AT = 200_000  # voxels, about, from which the range of intensities is taken
_MOST_SHARED = 8  # masks for which what they share is kept
_FLAT = 1e-3  # share of the range of intensities; less than that is no structure


@dataclass(frozen=True)
class Sampled:
    """Fine structure of a scan on a lattice [z, y, x] along the axes of space; 0 where `inside` is false."""

    values: Array
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class Scan:
    """A scan along the axes of space, without planes of padding, its intensities clipped to the range 0..1."""

    image: sitk.Image

    @classmethod
    def of(cls, image: sitk.Image) -> Scan:
        """Any 3D image with real voxels."""
        inner = _without_padding(sitk.DICOMOrient(image, "LPS"))
        array = sitk.GetArrayViewFromImage(inner)
        step = max(1, round((array.size / _LOOKED_AT) ** (1 / 3)))
        low, high = map(float, np.percentile(array[::step, ::step, ::step], (1, 99)))
        return cls(sitk.IntensityWindowing(sitk.Cast(inner, sitk.sitkFloat32), low, max(high, low + 1e-6), 0.0, 1.0))

    @property
    def spacing(self) -> NDArray[np.float64]:
        """x, y, z in mm."""
        return np.array(self.image.GetSpacing())

    @property
    def box(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lowest and the highest corner in space, x, y, z in mm."""
        ends = [(-0.5, size - 0.5) for size in self.image.GetSize()]
        corners = np.array([self.image.TransformContinuousIndexToPhysicalPoint(p) for p in itertools.product(*ends)])
        return corners.min(0), corners.max(0)

    @property
    def sides(self) -> NDArray[np.float64]:
        """Of the box, x, y, z in mm."""
        low, high = self.box
        return high - low

    def sample(self, cell: NDArray[np.float64]) -> Sampled:
        """Fine structure on a lattice with this spacing (x, y, z in mm)."""
        low, high = self.box
        counts = np.maximum(1, np.round((high - low) / cell)).astype(int)
        grid = sitk.ResampleImageFilter()
        grid.SetSize(counts.tolist())
        grid.SetOutputSpacing(cell.tolist())
        grid.SetOutputOrigin(((low + high) / 2 - (counts - 1) / 2 * cell).tolist())
        grid.SetDefaultPixelValue(-1.0)
        found = sitk.GetArrayFromImage(grid.Execute(_smoothed(self.image, cell)))
        inside = found >= -0.01
        return Sampled(_fine(np.where(inside, found, 0), inside), inside)


def likeness(first: Sampled, second: Sampled) -> float:
    """The highest correlation of two samples over all shifts with enough overlap: 1 for the same, about 0 for noise.

    0 where there is too little to tell. Both must have been sampled with the same cell.
    """
    return Likeness(first).to(second)


class Likeness:
    """The likeness of many samples to one. What depends on their shape and mask alone is computed once for all.

    See Padfield, Masked FFT registration.
    """

    def __init__(self, first: Sampled) -> None:
        self._first = first
        self._known: dict[tuple[tuple[int, ...], bytes], _Shared] = {}

    def to(self, second: Sampled) -> float:
        """See `likeness`."""
        correlation = self._correlations(second)
        best = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
        return float(np.clip(_between_cells(correlation, best), 0, 1))

    def _correlations(self, second: Sampled) -> NDArray[np.float64]:
        """Of each shift; 0 where the overlap is too small or holds no structure."""
        ours = self._shared(second)
        b, bb = (np.conj(fft.rfftn(part, ours.shape)) for part in _moments(second)[:2])
        sum_b, square_b = fft.irfftn(ours.am * b, ours.shape), fft.irfftn(ours.am * bb, ours.shape)
        both = fft.irfftn(ours.a * b, ours.shape) - ours.sum_a * sum_b / ours.cells
        variance_b = np.maximum(square_b - sum_b**2 / ours.cells, 0)
        enough = max(_OVERLAP * max(self._first.inside.sum(), second.inside.sum()), _FEWEST)
        known = (ours.cells >= enough) & (np.minimum(ours.variance_a, variance_b) > ours.cells * _FLAT**2)
        return np.where(known, both / np.sqrt(np.maximum(ours.variance_a * variance_b, 1e-12)), 0)

    def _shared(self, second: Sampled) -> _Shared:
        key = second.inside.shape, second.inside.tobytes()
        if key not in self._known:
            if len(self._known) >= _MOST_SHARED:
                self._known.clear()
            self._known[key] = _Shared.of(self._first, second.inside)
        return self._known[key]


@dataclass(frozen=True)
class _Shared:
    """Of the first sample (a) with a mask of the second: transforms, and what each shift gives."""

    shape: list[int]
    a: NDArray[np.complex128]
    am: NDArray[np.complex128]
    cells: NDArray[np.float64]  # that overlap
    sum_a: NDArray[np.float64]
    variance_a: NDArray[np.float64]

    @classmethod
    def of(cls, first: Sampled, mask: NDArray[np.bool_]) -> _Shared:
        shape = [fft.next_fast_len(a + b - 1, real=True) for a, b in zip(first.values.shape, mask.shape, strict=True)]
        a, aa, am = (fft.rfftn(part, shape) for part in _moments(first))
        bm = np.conj(fft.rfftn(mask.astype(np.float64), shape))
        cells, sum_a, square_a = (fft.irfftn(part * bm, shape) for part in (am, a, aa))
        cells = np.maximum(np.round(cells), 1)
        return cls(shape, a, am, cells, sum_a, np.maximum(square_a - sum_a**2 / cells, 0))


def _without_padding(image: sitk.Image) -> sitk.Image:
    """Without outer planes that hold a single value. A scan that holds a single value stays as it is."""
    array = sitk.GetArrayViewFromImage(image)
    inner = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        varies = np.flatnonzero(array.max(others) > array.min(others))
        if not len(varies):
            return image
        inner.append(slice(int(varies[0]), int(varies[-1]) + 1))
    return image[inner[2], inner[1], inner[0]]


def _smoothed(image: sitk.Image, cell: NDArray[np.float64]) -> sitk.Image:
    """What a cell can hold: averaged where many voxels share one."""
    shares = np.maximum(1, np.floor(cell / 2 / np.array(image.GetSpacing()))).astype(int)
    shares = np.minimum(shares, image.GetSize())
    image = sitk.BinShrink(image, shares.tolist()) if shares.max() > 1 else image
    spacing = np.array(image.GetSpacing())
    width = 0.5 * np.sqrt(np.maximum(cell**2 - spacing**2, 0))
    return sitk.DiscreteGaussian(image, np.maximum(width**2, 1e-9).tolist()) if (width > 0.1 * spacing).any() else image


def _fine(values: Array, inside: NDArray[np.bool_]) -> Array:
    weight = gaussian_filter(inside.astype(np.float32), _FINE, mode="constant")
    coarse = gaussian_filter(values.astype(np.float32), _FINE, mode="constant") / np.maximum(weight, 1e-6)
    return np.where(inside, values - coarse, 0).astype(np.float32)


def _moments(sampled: Sampled) -> list[NDArray[np.float64]]:
    parts = sampled.values, sampled.values**2, sampled.inside
    return [part.astype(np.float64) for part in parts]


def _between_cells(values: NDArray[np.float64], best: tuple[np.intp, ...]) -> float:
    """The top of a parabola through the highest value and its neighbours along each axis, which wrap around."""
    top = peak = float(values[best])
    for axis, place in enumerate(best):
        line = np.moveaxis(values, axis, -1)[tuple(np.delete(best, axis))]
        before, after = float(line[place - 1]), float(line[(place + 1) % len(line)])
        bend = before - 2 * peak + after
        if bend < 0 and min(before, after) > 0:
            top -= (before - after) ** 2 / (8 * bend)
    return top
