"""Volume nodes and images. Arrays are [z, y, x]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.descriptor import Descriptor, describe, looked_at
from MedSeqFTLib.imaging.geometry import Geometry, check_grid
from MedSeqFTLib.imaging.volumes import check_finite
from MedSeqFTLib.scene.grids import grid_of_volume, place_volume
from MedSeqFTLib.scene.marks import NAME
from MedSeqFTLib.workspace.anonymity import new_name
from MedSeqFTLib.workspace.names import name_from
from MedSeqFTLib.workspace.workspace import Workspace

_LEVELS = (0.1, 99.9)  # percentiles of the voxels


def image_of(node: Any) -> sitk.Image:
    """A copy of a scalar volume, as it lies in the world: linear parent transforms are hardened in the copy.

    The node is not changed. Voxel type and values stay as they are.

    Raises:
        InputError: not a volume, a label map, several values per voxel, no voxels, NaN or infinite ones.
        GeometryError: under a non-linear transform, or a grid that is sheared or otherwise unusable.
    """
    return copying(node)()


def copying(node: Any) -> Callable[[], sitk.Image]:
    """What copies a scalar volume, as `image_of`: it takes long and touches no scene, so it may be done on a thread.

    The volume must not change before that is done. Raises what can be told without looking at the voxels.
    """
    grid, voxels, where = volume_grid(node), voxels_of(node.GetImageData()), f"Volume {node.GetName()!r}"

    def copy() -> sitk.Image:
        image = grid.image_of(voxels)
        check_finite(image, where)
        return image

    return copy


def volume_grid(node: Any) -> Geometry:
    """The grid of `image_of`, without copying voxels. Raises as that, except for NaN."""
    where = _checked_volume(node)
    grid = grid_of_volume(node)
    check_grid(grid, where)
    return grid


def descriptor_of(node: Any) -> Descriptor:
    """What kind of image a volume is, see MedSeqFTLib.imaging.descriptor. Takes no time. Raises as `volume_grid`."""
    return describe(voxels_of(node.GetImageData()), volume_grid(node).spacing)


def kept_name(workspace: Workspace, volume: Any) -> str:
    """The name under which a workspace keeps a volume; "volume" if nothing of its own can be a folder's name.

    An anonymous workspace gives it one, which the node remembers.
    """
    if workspace.info.anonymous and not volume.GetAttribute(NAME):
        volume.SetAttribute(NAME, new_name())
    return known_name(workspace, volume)


def known_name(workspace: Workspace, volume: Any) -> str:
    """As `kept_name`; empty if it has none yet."""
    if workspace.info.anonymous:
        return str(volume.GetAttribute(NAME) or "")
    try:
        return name_from(str(volume.GetName() or ""), "volume")
    except InputError:  # a name without a Latin letter, for instance
        return "volume"


class NewVolume(NamedTuple):
    """An image as a volume node will hold it."""

    data: Any  # vtkImageData
    grid: Geometry
    darkest: float  # of the display: what is darker is black
    brightest: float


def new_volume(image: sitk.Image) -> NewVolume:
    """The part of `add_volume` that takes long and touches no scene: it may be done on a thread.

    The display's levels are those that Slicer finds, which would look at every voxel, and block the window.
    """
    array = sitk.GetArrayViewFromImage(image)
    return NewVolume(image_data_of(array), Geometry.of(image), *np.percentile(looked_at(array), _LEVELS).tolist())


def add_volume(scene: Any, image: sitk.Image | NewVolume, name: str) -> Any:
    """A new scalar volume node with a copy of an image. Returns the node."""
    new = image if isinstance(image, NewVolume) else new_volume(image)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.CreateDefaultDisplayNodes()  # before it has voxels: see `new_volume`
    if new.darkest < new.brightest:
        node.GetDisplayNode().AutoWindowLevelOff()
        node.GetDisplayNode().SetWindowLevelMinMax(new.darkest, new.brightest)
    node.SetAndObserveImageData(new.data)
    place_volume(node, new.grid)
    return node


def voxels_of(image_data: Any) -> NDArray[Any]:
    """The scalars of a vtkImageData [z, y, x]; shares its memory, so copy what is to be kept."""
    scalars = image_data.GetPointData().GetScalars()
    if scalars is None:
        return np.zeros((0, 0, 0), np.uint8)
    return vtk_to_numpy(scalars).reshape(image_data.GetDimensions()[::-1])


def image_data_of(array: NDArray[Any], kind: Any = vtk.vtkImageData, first: Sequence[int] = (0, 0, 0)) -> Any:
    """A vtkImageData or another `kind` of it: a copy of an array [z, y, x] that begins at voxel `first` (x, y, z)."""
    result = kind()
    bounds = [(start, start + size - 1) for start, size in zip(first, array.shape[::-1], strict=True)]
    result.SetExtent(*(bound for pair in bounds for bound in pair))
    result.AllocateScalars(get_vtk_array_type(array.dtype), 1)
    vtk_to_numpy(result.GetPointData().GetScalars())[:] = array.ravel()
    return result


def _checked_volume(node: Any) -> str:
    """How messages name the volume. Raises InputError if it is none that can be segmented."""
    if node is None:
        raise InputError("No volume is selected: load a volume and choose it.")
    where = f"Volume {node.GetName()!r}"
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise InputError(
            f"{node.GetName()!r} is a {node.GetNodeTagName()} node, not a 3D volume; of a sequence, choose the volume "
            "that shows its present time point."
        )
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(f"{where} is a label map, not an image; choose the image that it belongs to.")
    data = node.GetImageData()
    if data is None or 0 in data.GetDimensions() or data.GetPointData().GetScalars() is None:
        tensors = data is not None and data.GetPointData().GetTensors() is not None
        reason = "holds tensors" if tensors else "is empty: it has no voxels"
        raise InputError(f"{where} {reason}; load an image and choose that.")
    if (components := data.GetNumberOfScalarComponents()) != 1:
        raise InputError(
            f"{where} has {components} values per voxel (colour, vector or several time points); one is expected: "
            "extract one of them with the module Vector to Scalar Volume, or load a single time point."
        )
    return where
