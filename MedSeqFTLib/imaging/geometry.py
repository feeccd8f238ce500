"""Voxel grids: their checks, the canonical orientation and resampling. Lengths in mm, world axes LPS (as in ITK)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from MedSeqFTLib.errors import GeometryError

# ITK prints its warnings to the console, where nobody reads them; what matters is checked here and raised. Errors stay.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

CANONICAL = "LPS"
GRID_TOLERANCE = 1e-6  # of spacing (relative), origin (in voxels) and direction (absolute): the same grid
LATTICE_TOLERANCE = 1e-3  # voxels: the same lattice, with room for the float headers of NIfTI
SHEAR_TOLERANCE = 1e-3  # what rounded direction cosines in headers may deviate from a rotation

Vector = tuple[float, float, float]
Size = tuple[int, int, int]


@dataclass(frozen=True)
class Geometry:
    """A voxel grid: size (x, y, z voxels), spacing (x, y, z mm), origin (mm, LPS) and direction (3x3, row by row)."""

    size: Size
    spacing: Vector
    origin: Vector
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image | sitk.ImageFileReader) -> Geometry:
        """The grid of a 3D image, or of a file whose header was read, bit by bit.

        Raises GeometryError for other dimensions.
        """
        if image.GetDimension() != 3:
            raise GeometryError(f"A 3D image is expected, this one has {image.GetDimension()} dimensions.")
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def of_file(cls, path: Path) -> Geometry:
        """The grid of an image file, from its header alone. Raises RuntimeError if it cannot be read."""
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        return cls.of(reader)

    @property
    def index_to_world(self) -> npt.NDArray[np.float64]:
        """[3, 3]: one column per voxel axis (x, y, z), the step to the next voxel in mm."""
        columns: npt.NDArray[np.float64] = np.reshape(self.direction, (3, 3)) * np.array(self.spacing)
        return columns

    def copy_to(self, image: sitk.Image) -> None:
        """Give `image`, which must have this size, exactly this spacing, origin and direction."""
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)

    def image_of(self, array: npt.NDArray[Any]) -> sitk.Image:
        """An image of `array` [z, y, x] on this grid. Raises GeometryError for another shape."""
        if array.shape != self.size[::-1]:
            raise GeometryError(
                f"An array of shape {array.shape} (z, y, x) does not fit a grid of {self.size} (x, y, z)."
            )
        image = sitk.GetImageFromArray(array)
        self.copy_to(image)
        return image


def spacing_problem(spacing: Sequence[float]) -> str | None:
    """What is wrong with a voxel size in mm, or None."""
    if all(math.isfinite(value) and value > 0 for value in spacing):
        return None
    return f"the voxel spacing is {_numbers(spacing)}, but must be above 0 mm along every axis"


def direction_problem(direction: npt.ArrayLike) -> str | None:
    """What is wrong with a direction matrix [3, 3] (a column per axis), or None. Mirrored grids are fine."""
    columns = np.reshape(np.asarray(direction, dtype=np.float64), (3, 3))
    deviation = np.abs(columns.T @ columns - np.eye(3)).max()
    if deviation <= SHEAR_TOLERANCE:  # false for NaN
        return None
    return (
        f"the axis directions {_numbers(columns.ravel())} are not at right angles or not of length 1; "
        "sheared grids are not supported: resample the image to a regular grid"
    )


def check_geometry(image: sitk.Image, where: str) -> None:
    """Refuse an image whose voxel grid is unusable.

    Raises:
        GeometryError: not 3D, or spacing not above 0, or directions sheared, or anything of it not finite.
    """
    if image.GetDimension() != 3:
        raise GeometryError(f"{where}: a 3D image is expected, this one has {image.GetDimension()} dimensions.")
    check_grid(Geometry.of(image), where)


def check_grid(grid: Geometry, where: str) -> None:
    """Refuse an unusable voxel grid.

    Raises:
        GeometryError: spacing not above 0, or directions sheared, or anything of it not finite.
    """
    problem = spacing_problem(grid.spacing) or direction_problem(grid.direction)
    if not problem and not all(map(math.isfinite, grid.origin)):
        problem = f"the origin is {_numbers(grid.origin)}, but must be finite"
    if problem:
        raise GeometryError(f"{where}: {problem}.")


def difference(a: Geometry, b: Geometry) -> str | None:
    """How two grids differ, in words, or None when they are the same within 1e-6 of a voxel."""
    if a.size != b.size:
        return f"size {_numbers(a.size)} against {_numbers(b.size)} voxels"
    spacing = np.array(a.spacing)
    if not _close(a.spacing, b.spacing, spacing):
        return f"spacing {_numbers(a.spacing)} against {_numbers(b.spacing)} mm"
    if not _close(a.direction, b.direction, 1.0):
        return f"direction {_numbers(a.direction)} against {_numbers(b.direction)}"
    if not _close(a.origin, b.origin, spacing.min()):
        return f"origin {_numbers(a.origin)} against {_numbers(b.origin)} mm"
    return None


def require_same_grid(a: Geometry, b: Geometry, what_a: str, what_b: str) -> None:
    """Refuse two images that do not share their voxels. Raises GeometryError naming both and the difference."""
    if problem := difference(a, b):
        raise GeometryError(f"{what_a} and {what_b} lie on different voxel grids: {problem}.")


def to_canonical(image: sitk.Image) -> sitk.Image:
    """Permute and flip the voxel axes so that they run as nearly as possible towards L, P and S; no interpolation."""
    canonical: sitk.Image = sitk.DICOMOrient(image, CANONICAL)
    return canonical


def from_canonical(image: sitk.Image, source: Geometry) -> sitk.Image:
    """Undo `to_canonical`: bring an image on the canonical grid of `source` back onto exactly the grid of `source`.

    Raises:
        GeometryError: the image is not on that grid.
    """
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(source.direction)
    result: sitk.Image = sitk.DICOMOrient(image, code)
    if problem := difference(Geometry.of(result), source):
        raise GeometryError(f"The image is not on the canonical grid of its source: {problem}.")
    source.copy_to(result)
    return result


def resample_to_spacing(image: sitk.Image, spacing_xyz: Sequence[float], is_label: bool) -> sitk.Image:
    """Resample to about `spacing_xyz` (mm) over exactly the same physical extent (corners, not voxel centres, agree).

    The number of voxels is rounded, so that the actual spacing differs a little from the one asked for. Images become
    float32 by linear interpolation; label maps keep their type, each label being interpolated on its own.

    Raises:
        GeometryError: `spacing_xyz` is not above 0.
    """
    if problem := spacing_problem(spacing_xyz):
        raise GeometryError(f"Cannot resample: {problem}.")
    source = Geometry.of(image)
    extent = np.array(source.size) * source.spacing
    size = np.maximum(1, np.rint(extent / np.array(spacing_xyz))).astype(int)
    if tuple(size.tolist()) == source.size:
        return image if is_label else sitk.Cast(image, sitk.sitkFloat32)
    spacing = extent / size
    shift = np.reshape(source.direction, (3, 3)) @ (0.5 * (spacing - source.spacing))
    origin = np.array(source.origin) + shift
    grid = Geometry(_triple(size), _triple(spacing), _triple(origin), source.direction)
    return resample_onto(image, grid, is_label)


def resample_onto(image: sitk.Image, grid: Geometry, is_label: bool) -> sitk.Image:
    """Resample onto a grid, as `resample_to_spacing` does. Beyond the image's edge its nearest voxel is repeated."""
    resample = sitk.ResampleImageFilter()
    resample.SetSize(grid.size)
    resample.SetOutputSpacing(grid.spacing)
    resample.SetOutputOrigin(grid.origin)
    resample.SetOutputDirection(grid.direction)
    resample.SetInterpolator(sitk.sitkLabelLinear if is_label else sitk.sitkLinear)
    # Voxel centres of the outermost voxels lie up to half a voxel outside the old ones; they must not become 0.
    resample.SetUseNearestNeighborExtrapolator(True)
    result: sitk.Image = resample.Execute(image if is_label else sitk.Cast(image, sitk.sitkFloat32))
    return result


def bounding_grid(grids: Sequence[Geometry], lattice: Geometry, where: str) -> Geometry:
    """The smallest grid with the voxels of `lattice` that holds all of these grids, inside `lattice` or not.

    Raises:
        GeometryError: the voxels of one of them are not those of the lattice (within 1e-3 voxel).
    """
    starts = np.array([_lattice_offset(grid, lattice, where)[::-1] for grid in grids])
    first = starts.min(axis=0)
    size = (starts + [grid.size for grid in grids]).max(axis=0) - first
    origin = np.array(lattice.origin) + lattice.index_to_world @ first
    return Geometry(_triple(size), lattice.spacing, _triple(origin), lattice.direction)


def onto_grid(label_image: sitk.Image, geometry: Geometry, where: str = "The label map") -> sitk.Image:
    """Paste a label map onto a grid that has the same voxels but begins or ends elsewhere; nothing is interpolated.

    3D Slicer, for instance, stores a segmentation cropped to what is drawn. The result has exactly `geometry`.

    Raises:
        GeometryError: its voxels are not voxels of the grid (within 1e-3 voxel), or labelled ones lie outside.
    """
    pixels = sitk.GetArrayViewFromImage(label_image)
    return geometry.image_of(pasted(pixels, Geometry.of(label_image), geometry, where))


def pasted(pixels: npt.NDArray[Any], source: Geometry, target: Geometry, where: str) -> npt.NDArray[Any]:
    """As `onto_grid`, for an array [z, y, x] on `source`. Raises as that."""
    offset = _lattice_offset(source, target, where)
    result = np.zeros(target.size[::-1], dtype=pixels.dtype)
    inside = pixels[_overlap(offset, pixels.shape, result.shape)]
    result[_overlap(tuple(-o for o in offset), result.shape, pixels.shape)] = inside
    if lost := np.count_nonzero(pixels) - np.count_nonzero(inside):
        raise GeometryError(
            f"{where}: {lost} labelled voxels lie outside the image; erase them or take the image that was segmented."
        )
    return result


def _lattice_offset(source: Geometry, target: Geometry, where: str) -> tuple[int, ...]:
    """Where voxel 0 of `source` lies in `target`: z, y, x voxels."""
    to_index = np.linalg.inv(target.index_to_world)
    offset = to_index @ (np.array(source.origin) - target.origin)
    steps = np.maximum(1, np.array(source.size) - 1)  # voxels over which a small difference adds up
    drift = (to_index @ source.index_to_world - np.eye(3)) * steps
    if max(np.abs(offset - np.rint(offset)).max(), np.abs(drift).max()) > LATTICE_TOLERANCE:
        raise GeometryError(
            f"{where} does not fit the image's voxel grid ({_mismatch(source, target)}); "
            "segment this image, or resample the segmentation to its grid."
        )
    return tuple(int(o) for o in np.rint(offset)[::-1])


def _mismatch(source: Geometry, target: Geometry) -> str:
    """The part of two grids that makes their lattices differ, in words."""
    alike = Geometry(target.size, source.spacing, source.origin, source.direction)
    return difference(alike, target) or "sizes differ"


def _overlap(offset: Sequence[int], shape: Sequence[int], other: Sequence[int]) -> tuple[slice, ...]:
    """The part of an array of `shape` that also lies in one of shape `other`, where it begins at `offset`."""
    return tuple(slice(min(max(0, -o), n), max(0, min(n, m - o))) for o, n, m in zip(offset, shape, other, strict=True))


def _close(a: Sequence[float], b: Sequence[float], scale: npt.NDArray[np.float64] | float) -> bool:
    return bool((np.abs(np.subtract(a, b)) <= GRID_TOLERANCE * scale).all())


def _triple(values: npt.NDArray[Any]) -> tuple[Any, Any, Any]:
    x, y, z = values.tolist()
    return x, y, z


def _numbers(values: Sequence[float] | npt.NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{value:.7g}" for value in values) + ")"
