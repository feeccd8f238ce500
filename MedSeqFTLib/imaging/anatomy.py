"""A head of which every tissue is known: the average brain that nilearn ships, inside a schematic skull and scalp.

The ICBM 152 template is the average of 152 people with the skull taken away, so skull, scalp, eyes and face are drawn
here from distances to the brain. Arrays are [z, y, x] with axes z->S, y->P, x->L (LPS), on a grid of 2 mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from MedSeqFTLib.errors import InputError

Array = NDArray[np.float32]

STEP = 2.0  # mm between the samples of the anatomy
MARGIN = 24  # mm of space added around the template, for skull, scalp and neck
CHANNELS = ("grey", "white", "ventricle", "detail", "depth", "column", "eyes")

# Places in the template, mm: left, posterior, superior.
_VENTRICLE_SEED = (9.0, 5.0, 20.0)
_EYES = ((33.0, -58.0, -36.0), (-33.0, -58.0, -36.0))
_EYE_RADIUS = 12.0
_FACE_TOP = -24.0


@dataclass(frozen=True)
class Anatomy:
    """The head as a stack of smooth maps, float32 [channel, z, y, x] in the order of CHANNELS.

    grey, white, ventricle: share of the voxel, 0..1 (ventricle: of the lateral ventricles; all other fluid is what is
    left inside the skull). detail: what T1 shows beyond the mean of each tissue. depth: mm outside of the closed brain
    surface, negative within. column: mm outside of the head's outline below the skull base, negative within. eyes: mm
    outside of the eyeballs. inward: vectors [3, z, y, x] of length 0..1 that point into the ventricles and fade out
    over about 3 cm. `origin` is the place of voxel [0, 0, 0], mm z, y, x.
    """

    maps: Array
    inward: Array
    origin: tuple[float, float, float]

    def sample(self, points: Array) -> dict[str, Array]:
        """Every map at points [3, ...], mm z, y, x; the outermost voxel goes on for ever."""
        index = self._index(points)
        return {name: _read(volume, index) for name, volume in zip(CHANNELS, self.maps, strict=True)}

    def sample_inward(self, points: Array) -> Array:
        """The vectors `inward` at points [3, ...], mm z, y, x."""
        index = self._index(points)
        return np.stack([_read(volume, index) for volume in self.inward])

    def _index(self, points: Array) -> Array:
        corner = np.array(self.origin, dtype=np.float32).reshape((3,) + (1,) * (points.ndim - 1))
        return (points - corner) / STEP


def _read(volume: Array, index: Array) -> Array:
    result: Array = ndimage.map_coordinates(volume, index, order=1, mode="nearest", prefilter=False)
    return result


@lru_cache(maxsize=1)
def load_anatomy() -> Anatomy:
    """Derive the maps from the template inside the nilearn package; nothing is downloaded.

    Raises InputError when nilearn is not installed.
    """
    t1, grey, white, brain, corner = _template()
    ventricle = _ventricle(np.clip(brain - grey - white, 0, 1), corner)
    t1, grey, white, brain, ventricle = (_halve(volume) for volume in (t1, grey, white, brain, ventricle))
    origin = (corner[0] + 0.5, corner[1] + 0.5, corner[2] + 0.5)
    fluid = np.clip(brain - grey - white, 0, 1)
    means = [float((t1 * share**8).sum() / (share**8).sum()) for share in (grey, white, fluid)]
    detail = t1 - means[0] * grey - means[1] * white - means[2] * fluid
    maps = (grey, white, ventricle, detail, _depth(brain), _column(brain, origin), _eyes(brain.shape, origin))
    return Anatomy(np.stack(maps), _inward(ventricle), origin)


def _template() -> tuple[Array, Array, Array, Array, tuple[float, float, float]]:
    """T1, grey matter, white matter and brain mask of 1 mm, with a margin; origin in mm z, y, x."""
    try:
        from nilearn import datasets
    except ImportError as error:
        raise InputError("The demo cohort needs the package nilearn: install it with `pip install nilearn`.") from error
    loaders = (
        datasets.load_mni152_template,
        datasets.load_mni152_gm_template,
        datasets.load_mni152_wm_template,
        datasets.load_mni152_brain_mask,
    )
    images = [loader(resolution=1) for loader in loaders]
    corner = images[0].affine[:3, 3]  # x and y of RAS; the template's axes are R, A, S and its voxel is 1 mm
    size = images[0].shape
    origin = (corner[2] - MARGIN, -(corner[1] + size[1] - 1) - MARGIN, -(corner[0] + size[0] - 1) - MARGIN)
    t1, grey, white, brain = (_as_lps(np.asarray(image.dataobj, dtype=np.float32)) for image in images)
    return t1, grey, white, brain, (float(origin[0]), float(origin[1]), float(origin[2]))


def _as_lps(volume: Array) -> Array:
    """[x, y, z] of RAS axes -> [z, y, x] of LPS axes with the margin; the cut spinal cord goes on downwards."""
    turned = volume.transpose(2, 1, 0)[:, ::-1, ::-1]
    return np.pad(
        np.pad(turned, ((MARGIN, 0), (0, 0), (0, 0)), mode="edge"), ((0, MARGIN), (MARGIN,) * 2, (MARGIN,) * 2)
    )


def _ventricle(fluid: Array, origin: tuple[float, float, float]) -> Array:
    """Fluid of the lateral ventricles: the part connected with a point that lies in the body of the left one."""
    parts, _ = ndimage.label(fluid > 0.5)
    left, posterior, superior = _VENTRICLE_SEED
    seed = tuple(round(place - start) for place, start in zip((superior, posterior, left), origin, strict=True))
    near = ndimage.binary_dilation(parts == parts[seed], iterations=3)
    result: Array = (fluid * near).astype(np.float32)
    return result


def _depth(brain: Array) -> Array:
    """mm outside of the brain's surface after its fissures are closed; negative within."""
    widened = _distance(brain < 0.5) <= 5
    closed = (_distance(widened) > 5) | (brain > 0.5)
    result: Array = ndimage.gaussian_filter(_signed_distance(closed), 4 / STEP)
    return result


def _column(brain: Array, origin: tuple[float, float, float]) -> Array:
    """mm outside of a column that carries the head below the skull base; far outside above it."""
    superior = origin[0] + STEP * np.arange(brain.shape[0], dtype=np.float32)
    outline = ndimage.gaussian_filter(_signed_distance(brain[superior > _FACE_TOP].max(axis=0) > 0.5), 4 / STEP)
    slope = np.where(superior < _FACE_TOP, -0.15, 1.0)
    result: Array = (outline[None] + (slope * (superior - _FACE_TOP))[:, None, None]).astype(np.float32)
    return result


def _eyes(shape: tuple[int, ...], origin: tuple[float, float, float]) -> Array:
    """mm outside of the nearer eyeball."""
    axes = np.ogrid[tuple(slice(0, size) for size in shape)]
    distances = []
    for left, posterior, superior in _EYES:
        centre = (superior, posterior, left)
        squares = sum((STEP * axis + start - at) ** 2 for axis, start, at in zip(axes, origin, centre, strict=True))
        distances.append(np.sqrt(squares) - _EYE_RADIUS)
    return np.minimum(*distances).astype(np.float32)


def _inward(ventricle: Array) -> Array:
    """Gradient of the blurred ventricles, scaled to a greatest length of 1."""
    slopes = np.stack(np.gradient(ndimage.gaussian_filter(ventricle, 12 / STEP))).astype(np.float32)
    result: Array = slopes / np.linalg.norm(slopes, axis=0).max()
    return result


def _distance(mask: NDArray[np.bool_]) -> Array:
    """mm from each voxel of the mask to the nearest voxel outside of it."""
    result: Array = ndimage.distance_transform_edt(mask, sampling=STEP).astype(np.float32)
    return result


def _signed_distance(inside: NDArray[np.bool_]) -> Array:
    return _distance(~inside) - _distance(inside)


def _halve(volume: Array) -> Array:
    """Means of blocks of 2x2x2 voxels: partial volume as a scanner of twice the voxel would see it."""
    even = volume[tuple(slice(0, size // 2 * 2) for size in volume.shape)]
    z, y, x = (size // 2 for size in even.shape)
    result: Array = even.reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5), dtype=np.float32)
    return result
