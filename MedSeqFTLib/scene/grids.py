"""Voxel grids of nodes. Slicer's world is RAS, the library's and the files' is LPS; lengths in mm in both."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import vtk

from MedSeqFTLib.errors import GeometryError
from MedSeqFTLib.imaging.geometry import Geometry, Size

Matrix = npt.NDArray[np.float64]  # [4, 4]
LPS_TO_RAS: Matrix = np.diag([-1.0, -1.0, 1.0, 1.0])  # its own inverse


def grid_of_volume(node: Any) -> Geometry:
    """The grid of a volume node in the world: its parent transforms, which must be linear, are applied.

    Without a parent transform, spacing, origin and directions are those of the node, bit by bit. The node must have
    voxels. Raises GeometryError for a transform that is not linear.
    """
    image = node.GetImageData()
    directions = [[0.0] * 3 for _ in range(3)]
    node.GetIJKToRASDirections(directions)
    own = Geometry(
        image.GetDimensions(),
        node.GetSpacing(),
        _to_lps(node.GetOrigin()),
        tuple((LPS_TO_RAS[:3, :3] @ np.array(directions) + 0.0).ravel().tolist()),  # + 0.0: no minus zeros
    )
    first = image.GetExtent()[0::2]
    if any(first):  # a volume may begin at another voxel than 0
        start = np.array(own.origin) + own.index_to_world @ first
        own = Geometry(own.size, own.spacing, _triple(start), own.direction)
    parent = parent_matrix(node)
    return own if parent is None else grid_from_matrix(own.size, parent @ ijk_to_ras(own))


def parent_matrix(node: Any) -> Matrix | None:
    """What the parent transforms of a node do to RAS points; None without a parent.

    Raises:
        GeometryError: one of them is not linear.
    """
    transform = node.GetParentTransformNode()
    if transform is None:
        return None
    if not transform.IsTransformToWorldLinear():
        raise GeometryError(
            f"{node.GetName()!r} is under the non-linear transform {transform.GetName()!r}, which no voxel grid can "
            "follow: harden the transform on a copy of it (module Data or Transforms), or take it out of the transform."
        )
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    return array_of(matrix)


def grid_from_matrix(size: Size, matrix: Matrix) -> Geometry:
    """The grid of `size` voxels (x, y, z) whose indices `matrix` takes to RAS. A sheared one is not refused here."""
    to_lps = LPS_TO_RAS @ matrix
    columns = to_lps[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    direction = np.divide(columns, spacing, out=np.zeros((3, 3)), where=spacing > 0)
    return Geometry(size, _triple(spacing), _triple(to_lps[:3, 3]), tuple((direction + 0.0).ravel().tolist()))


def ijk_to_ras(grid: Geometry) -> Matrix:
    """The matrix that takes voxel indices of a grid to RAS."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = grid.index_to_world, grid.origin
    return LPS_TO_RAS @ matrix


def place_volume(node: Any, grid: Geometry) -> None:
    """Give a volume node exactly this grid; Slicer normalizes directions, which may change their last bit."""
    directions = LPS_TO_RAS[:3, :3] @ np.reshape(grid.direction, (3, 3)) + 0.0
    node.SetSpacing(*grid.spacing)
    node.SetOrigin(*_to_lps(grid.origin))
    node.SetIJKToRASDirections(*directions.ravel().tolist())


def vtk_matrix(matrix: Matrix) -> Any:
    """As a vtkMatrix4x4."""
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(matrix.ravel().tolist())
    return result


def array_of(matrix: Any) -> Matrix:
    """Of a vtkMatrix4x4."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def _to_lps(point: tuple[float, float, float]) -> tuple[float, float, float]:
    """From RAS, or to it."""
    x, y, z = point
    return 0.0 - x, 0.0 - y, z


def _triple(values: Matrix) -> tuple[float, float, float]:
    x, y, z = (float(value) + 0.0 for value in values)
    return x, y, z
