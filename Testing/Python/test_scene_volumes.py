"""Volume nodes and images, with Slicer's own nodes; SimpleITK and nibabel read what Slicer writes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imaging_samples import counting_image, geometries, oblique, one_line
from slicer_boot import scene as scene  # a fixture
from slicer_samples import slicer, vtk, vtk_matrix

from MedSeqFTLib.errors import GeometryError, InputError
from MedSeqFTLib.imaging.geometry import Geometry
from MedSeqFTLib.scene.grids import array_of, ijk_to_ras
from MedSeqFTLib.scene.volumes import add_volume, image_data_of, image_of, volume_grid

FEW = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    """Turns and mirrors with a shift; half of them also stretch the axes differently."""
    grid = draw(geometries())
    return ijk_to_ras(grid if draw(st.booleans()) else replace(grid, spacing=(1.0, 1.0, 1.0)))


def matrix_of(node: Any) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return array_of(matrix)


def linear(scene: Any, matrix: np.ndarray, *nodes: Any) -> Any:
    """Put nodes under a new linear transform."""
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Move")
    transform.SetMatrixTransformToParent(vtk_matrix(matrix))
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


@FEW
@given(grid=geometries())
def test_a_volume_comes_back(scene: Any, grid: Geometry) -> None:
    image = counting_image(grid)
    node = add_volume(scene, image, "scan")
    again = image_of(node)
    found = Geometry.of(again)
    assert (found.size, found.spacing) == (grid.size, grid.spacing)
    np.testing.assert_allclose(found.origin, grid.origin, rtol=0, atol=1e-15)  # Slicer rounds 1e-263 mm to 0
    np.testing.assert_allclose(found.direction, grid.direction, rtol=0, atol=1e-15)  # Slicer normalizes them
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(again), sitk.GetArrayViewFromImage(image))
    np.testing.assert_allclose(matrix_of(node), ijk_to_ras(grid), atol=1e-9)
    scene.Clear()


@pytest.mark.parametrize("ending", ["nrrd", "nii"])
def test_other_programs_read_the_same_geometry_and_voxels(scene: Any, tmp_path: Path, ending: str) -> None:
    node = add_volume(scene, counting_image(oblique()), "scan")
    path = tmp_path / f"scan.{ending}"
    storage = scene.AddNewNodeByClass(
        "vtkMRMLNRRDStorageNode" if ending == "nrrd" else "vtkMRMLVolumeArchetypeStorageNode"
    )
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    ours, theirs = image_of(node), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
    np.testing.assert_allclose(
        ijk_to_ras(Geometry.of(ours)), ijk_to_ras(Geometry.of(theirs)), atol=1e-9 if ending == "nrrd" else 1e-4
    )
    if ending == "nii":
        np.testing.assert_allclose(nibabel.load(path).affine, ijk_to_ras(Geometry.of(ours)), atol=1e-4)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_voxel_types_stay(scene: Any, dtype: str) -> None:
    image = counting_image(oblique(), np.dtype(dtype))
    array = sitk.GetArrayFromImage(image_of(add_volume(scene, image, "scan")))
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(image))


@FEW
@given(grid=geometries(), matrix=matrices())
def test_linear_transforms_are_hardened_as_slicer_does(scene: Any, grid: Geometry, matrix: np.ndarray) -> None:
    """Rotations, mirrors and equal scales keep a grid; others shear it, and are refused."""
    node, twin = (add_volume(scene, counting_image(grid), name) for name in ("scan", "twin"))
    linear(scene, matrix, node, twin)
    twin.HardenTransform()
    before = matrix_of(node)
    columns = matrix[:3, :3] @ ijk_to_ras(grid)[:3, :3]
    columns /= np.linalg.norm(columns, axis=0)
    if np.abs(columns.T @ columns - np.eye(3)).max() > 1e-3:
        one_line(GeometryError, lambda: image_of(node), "'scan'", "not at right angles")
    else:
        hardened = image_of(node)
        np.testing.assert_allclose(ijk_to_ras(Geometry.of(hardened)), matrix_of(twin), atol=1e-8)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(hardened), sitk.GetArrayFromImage(counting_image(grid)))
    np.testing.assert_array_equal(matrix_of(node), before)
    assert node.GetParentTransformNode() is not None
    scene.Clear()


def test_a_chain_of_transforms_counts_as_a_whole(scene: Any) -> None:
    node = add_volume(scene, counting_image(oblique()), "scan")
    turn, shift = np.diag([-1.0, -1.0, 1.0, 1.0]), np.eye(4)
    shift[:3, 3] = 10, 20, -30
    inner = linear(scene, turn, node)
    linear(scene, shift, inner)
    np.testing.assert_allclose(ijk_to_ras(volume_grid(node)), shift @ turn @ ijk_to_ras(oblique()), atol=1e-9)


def test_a_non_linear_transform_is_refused_wherever_it_is_in_the_chain(scene: Any) -> None:
    node = add_volume(scene, counting_image(oblique()), "scan")
    inner = linear(scene, np.eye(4), node)
    warp = scene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Warp")
    inner.SetAndObserveTransformNodeID(warp.GetID())
    one_line(GeometryError, lambda: image_of(node), "'scan'", "'Move'", "non-linear", "harden", "copy")
    node.SetAndObserveTransformNodeID(warp.GetID())
    one_line(GeometryError, lambda: volume_grid(node), "'Warp'")


def test_a_flat_transform_is_refused(scene: Any) -> None:
    node = add_volume(scene, counting_image(oblique()), "scan")
    linear(scene, np.diag([1.0, 1.0, 0.0, 1.0]), node)
    one_line(GeometryError, lambda: image_of(node), "'scan'")


def test_voxels_of_a_node_that_does_not_begin_at_voxel_0(scene: Any) -> None:
    grid = oblique()
    whole = add_volume(scene, counting_image(grid), "whole")
    array = sitk.GetArrayFromImage(counting_image(grid))
    part = add_volume(scene, counting_image(grid), "part")
    part.SetAndObserveImageData(image_data_of(array[1:4, 2:5, 3:6], first=(3, 2, 1)))
    found = image_of(part)
    assert found.GetSize() == (3, 3, 3)
    index = (1, 0, 2)
    point = found.TransformIndexToPhysicalPoint(index)
    assert image_of(whole).TransformPhysicalPointToIndex(point) == (4, 2, 3)
    assert found[index] == image_of(whole)[4, 2, 3]


def test_the_image_is_a_copy(scene: Any) -> None:
    node = add_volume(scene, counting_image(oblique()), "scan")
    image = image_of(node)
    slicer.util.arrayFromVolume(node)[:] = 7
    assert image[2, 2, 2] != 7


# what cannot be segmented


def test_nothing_selected() -> None:
    one_line(InputError, lambda: image_of(None), "No volume is selected")


def test_other_nodes_are_refused(scene: Any) -> None:
    for kind in ("vtkMRMLSequenceNode", "vtkMRMLModelNode", "vtkMRMLSegmentationNode"):
        node = scene.AddNewNodeByClass(kind, "thing")
        one_line(InputError, lambda node=node: image_of(node), "'thing'", "not a 3D volume")
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "drawn")
    one_line(InputError, lambda: image_of(labels), "'drawn'", "label map")


def test_an_empty_volume_is_refused(scene: Any) -> None:
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    one_line(InputError, lambda: image_of(node), "'nothing'", "empty")
    node.SetAndObserveImageData(vtk.vtkImageData())
    one_line(InputError, lambda: volume_grid(node), "'nothing'", "empty")


@pytest.mark.parametrize("kind", ["vtkMRMLVectorVolumeNode", "vtkMRMLDiffusionWeightedVolumeNode"])
def test_colours_and_time_points_are_refused(scene: Any, kind: str) -> None:
    node = scene.AddNewNodeByClass(kind, "photo")
    data = vtk.vtkImageData()
    data.SetDimensions(4, 5, 6)
    data.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node.SetAndObserveImageData(data)
    one_line(InputError, lambda: image_of(node), "'photo'", "3 values per voxel", "Vector to Scalar Volume")


def test_nan_is_refused(scene: Any) -> None:
    image = counting_image(oblique(), np.float32)
    image[1, 2, 3] = float("nan")
    node = add_volume(scene, image, "scan")
    one_line(InputError, lambda: image_of(node), "'scan'", "(1, 2, 3)")
