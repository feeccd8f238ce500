"""Segmentation nodes of Slicer in the terms of a task, and label maps as new nodes."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imaging_samples import counting_image, geometries, oblique, one_line
from slicer_boot import scene as scene  # a fixture
from slicer_samples import ARTERY, ARTERY_MASK, GRID, SHAPE, TUMOUR_MASK, VEIN, VEIN_MASK, box, slicer, vtk, vtk_matrix
from slicer_samples import ijk_to_ras as expected_matrix

from MedSeqFTLib.errors import GeometryError, InputError
from MedSeqFTLib.imaging.geometry import Geometry, onto_grid
from MedSeqFTLib.imaging.segmentations import read_label_map, write_seg_nrrd
from MedSeqFTLib.scene.placing import add_segmentation
from MedSeqFTLib.scene.segmentations import Overlap, drawn_on, findings, label_map_of
from MedSeqFTLib.scene.volumes import add_volume, image_data_of, volume_grid
from MedSeqFTLib.workspace.schema import Code, Label

BINARY = "Binary labelmap"
LABELS = (
    Label(value=7, name="Artery", color=(0.9, 0.1, 0.125), code=ARTERY),
    Label(value=3, name="Gefäß & Co: 2", color=(0.0, 0.5, 0.25), code=VEIN),
    Label(value=200, name="tumour", color=(0.1, 0.2, 1.0)),
)
CONTEXT = "Segmentation category and type - DICOM master list~SCT^85756007^Tissue"
FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def volume(scene: Any) -> Any:
    return add_volume(scene, counting_image(GRID), "scan")


@pytest.fixture
def node(scene: Any, volume: Any) -> Any:
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawing")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return segmentation


def draw(node: Any, mask: np.ndarray, name: str, code: Code | None = None, grid: Geometry = GRID) -> str:
    """Add a segment as the Segment Editor does; returns its id."""
    image = image_data_of(mask.astype(np.uint8), slicer.vtkOrientedImageData)
    image.SetImageToWorldMatrix(vtk_matrix(expected_matrix(grid)))
    identifier = node.GetSegmentation().AddEmptySegment("", name)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(image, node, identifier, logic.MODE_REPLACE, image.GetExtent())
    if code is not None:
        entry = f"{CONTEXT}~{code.scheme}^{code.value}^{code.meaning}~^^~Anatomic codes~^^~^^"
        node.GetSegmentation().GetSegment(identifier).SetTag("TerminologyEntry", entry)
    return str(identifier)


def found_in(node: Any, grid: Geometry = GRID, labels: tuple[Label, ...] = LABELS) -> np.ndarray:
    """The label map on the whole grid."""
    return sitk.GetArrayFromImage(onto_grid(label_map_of(drawn_on(node, grid), labels).image, grid))


def expected(**masks: np.ndarray) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    for label, key in zip(LABELS, ("artery", "vein", "tumour"), strict=True):
        array[masks.get(key, np.zeros(SHAPE, bool))] = label.value
    return array


# reading


def test_segments_are_found_by_terminology_and_name(node: Any) -> None:
    old = draw(node, ARTERY_MASK, "old")
    draw(node, VEIN_MASK, "renamed by hand", VEIN)
    draw(node, TUMOUR_MASK, "Tumour")
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    node.GetSegmentation().RemoveSegment(old)
    draw(node, ARTERY_MASK, "Segment_9", ARTERY)
    np.testing.assert_array_equal(found_in(node), expected(artery=ARTERY_MASK, vein=VEIN_MASK, tumour=TUMOUR_MASK))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_of_segments_does_not_matter(node: Any, order: tuple[int, ...]) -> None:
    drawings = [(ARTERY_MASK, "artery", None), (VEIN_MASK, "x", VEIN), (TUMOUR_MASK, "TUMOUR", None)]
    for place in order:
        draw(node, *drawings[place])
    np.testing.assert_array_equal(found_in(node), expected(artery=ARTERY_MASK, vein=VEIN_MASK, tumour=TUMOUR_MASK))


def test_the_same_as_reading_the_file_that_slicer_saves(node: Any, scene: Any, tmp_path: Path) -> None:
    draw(node, ARTERY_MASK, "Artery")
    draw(node, VEIN_MASK, "x", VEIN)
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(tmp_path / "drawing.seg.nrrd"))
    assert storage.WriteData(node)
    stored = read_label_map(tmp_path / "drawing.seg.nrrd", LABELS, GRID)
    ours = label_map_of(drawn_on(node, GRID), LABELS)
    np.testing.assert_array_equal(found_in(node), sitk.GetArrayFromImage(stored.image))
    assert (ours.found, ours.overlap_voxels) == (stored.found, stored.overlap_voxels) == (ours.found, 9)


def test_findings(node: Any) -> None:
    draw(node, ARTERY_MASK, "Artery")
    draw(node, VEIN_MASK, "vein", VEIN)
    draw(node, box((0, 1), (0, 2), (0, 3)), "scribble")
    draw(node, np.zeros(SHAPE, bool), "notes")
    draw(node, np.zeros(SHAPE, bool), "tumour")
    drawn = drawn_on(node, GRID)
    found = findings(drawn, LABELS, GRID)
    assert found.voxels == {"Artery": 75, "Gefäß & Co: 2": 60, "tumour": 0}
    assert found.unknown == ("scribble",)
    assert found.overlaps == (Overlap("Artery", "vein", 9),)
    assert not found.is_empty
    one_line(InputError, lambda: label_map_of(drawn, LABELS), "'drawing'", "scribble", "rename or delete")


def test_an_empty_segment_is_drawn_as_absent_and_a_missing_one_is_unknown(node: Any) -> None:
    draw(node, VEIN_MASK, "x", VEIN)
    draw(node, np.zeros(SHAPE, bool), "tumour")
    assert label_map_of(drawn_on(node, GRID), LABELS).found == ("Gefäß & Co: 2", "tumour")


def test_hidden_segments_and_surfaces_change_nothing(node: Any) -> None:
    identifier = draw(node, ARTERY_MASK, "Artery")
    node.GetDisplayNode().SetSegmentVisibility(identifier, False)
    node.GetDisplayNode().SetVisibility(False)
    assert node.CreateClosedSurfaceRepresentation()
    surface = node.GetSegmentation().GetSegment(identifier).GetRepresentation("Closed surface")
    before = surface.GetMTime(), node.GetSegmentation().GetMTime(), node.GetMTime()
    np.testing.assert_array_equal(found_in(node), expected(artery=ARTERY_MASK))
    assert before == (surface.GetMTime(), node.GetSegmentation().GetMTime(), node.GetMTime())


def test_what_is_read_is_a_copy(node: Any) -> None:
    draw(node, ARTERY_MASK, "Artery")
    drawn = drawn_on(node, GRID)
    node.GetSegmentation().RemoveAllSegments()
    assert label_map_of(drawn, LABELS).found == ("Artery",)
    assert drawn.layers[0].sum() == 75


@FEW
@given(grid=geometries(longest=7), data=st.data())
def test_any_grid(scene: Any, grid: Geometry, data: st.DataObject) -> None:
    volume = add_volume(scene, counting_image(grid), "scan")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawing")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    shape = grid.size[::-1]
    seed = data.draw(st.integers(0, 1000))
    mask = np.random.default_rng(seed).random(shape) < 0.5
    mask.flat[0] = True
    draw(node, mask, "tumour", grid=grid)
    array = found_in(node, volume_grid(volume))
    np.testing.assert_array_equal(array, np.where(mask, 200, 0))
    again = add_segmentation(volume, volume_grid(volume).image_of(array), LABELS, "placed")
    np.testing.assert_array_equal(found_in(again, volume_grid(volume)), array)
    scene.Clear()


def test_segmentation_and_volume_under_one_transform(scene: Any, volume: Any, node: Any) -> None:
    draw(node, ARTERY_MASK, "Artery")
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Move")
    turn = np.array([[0.6, -0.8, 0, 5], [0.8, 0.6, 0, -7], [0, 0, 1, 9], [0, 0, 0, 1]])
    transform.SetMatrixTransformToParent(vtk_matrix(turn))
    for moved in (volume, node):
        moved.SetAndObserveTransformNodeID(transform.GetID())
    grid = volume_grid(volume)
    np.testing.assert_array_equal(found_in(node, grid), expected(artery=ARTERY_MASK))
    node.SetAndObserveTransformNodeID(None)
    one_line(GeometryError, lambda: drawn_on(node, grid), "'drawing'", "does not fit")


def test_a_segmentation_under_a_non_linear_transform_is_refused(scene: Any, node: Any) -> None:
    draw(node, ARTERY_MASK, "Artery")
    node.SetAndObserveTransformNodeID(scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "Warp").GetID())
    one_line(GeometryError, lambda: drawn_on(node, GRID), "'drawing'", "'Warp'")


def test_a_segmentation_of_another_volume_is_refused(node: Any) -> None:
    draw(node, ARTERY_MASK, "Artery")
    other = oblique((14, 12, 10), (1, 1, 1))
    one_line(GeometryError, lambda: drawn_on(node, other), "'drawing'", "spacing")
    small = Geometry((7, 12, 10), GRID.spacing, GRID.origin, GRID.direction)
    drawn = drawn_on(node, small)
    one_line(GeometryError, lambda: findings(drawn, LABELS, small), "'drawing'", "30 labelled voxels lie outside")


def test_what_is_no_segmentation(scene: Any, volume: Any, node: Any) -> None:
    one_line(InputError, lambda: drawn_on(None, GRID), "No segmentation is selected")
    one_line(InputError, lambda: drawn_on(volume, GRID), "No segmentation is selected")
    one_line(InputError, lambda: drawn_on(node, GRID), "'drawing'", "no segment")
    draw(node, np.zeros(SHAPE, bool), "tumour")
    drawn = drawn_on(node, GRID)
    assert findings(drawn, LABELS, GRID).is_empty
    one_line(InputError, lambda: label_map_of(drawn, LABELS), "'drawing'", "empty")


def test_a_surface_as_source_is_refused(node: Any) -> None:
    draw(node, ARTERY_MASK, "Artery")
    node.CreateClosedSurfaceRepresentation()
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    one_line(InputError, lambda: drawn_on(node, GRID), "'drawing'", "Closed surface", "Binary labelmap")


def test_terminology_and_name_that_disagree(node: Any) -> None:
    draw(node, ARTERY_MASK, "tumour", VEIN)
    one_line(InputError, lambda: label_map_of(drawn_on(node, GRID), LABELS), "'drawing'", "'tumour'", "terminology")


# placing


def labels_image(grid: Geometry = GRID) -> sitk.Image:
    return grid.image_of(expected(artery=ARTERY_MASK, vein=VEIN_MASK))


def test_a_label_map_becomes_a_new_node(scene: Any, volume: Any) -> None:
    node = add_segmentation(volume, labels_image(), LABELS, "scan by M1")
    segmentation = node.GetSegmentation()
    assert node.GetName() == "scan by M1"
    assert node.GetStorageNode() is None
    assert segmentation.GetNumberOfLayers() == 1
    assert not segmentation.ContainsRepresentation("Closed surface")
    for index, label in enumerate(LABELS):
        segment = segmentation.GetNthSegment(index)
        assert (segment.GetName(), segment.GetLabelValue()) == (label.name, label.value)
        np.testing.assert_allclose(segment.GetColor(), label.color)
        assert f"~{label.code.scheme}^{label.code.value}^" in segment.GetTerminology() if label.code else True
        assert node.GetDisplayNode().GetSegmentVisibility(segmentation.GetNthSegmentID(index))
    role = node.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is volume
    np.testing.assert_array_equal(found_in(node), expected(artery=ARTERY_MASK, vein=VEIN_MASK))
    assert label_map_of(drawn_on(node, GRID), LABELS).found == tuple(label.name for label in LABELS)


def test_slicer_s_own_export_agrees(scene: Any, volume: Any) -> None:
    node = add_segmentation(volume, labels_image(), LABELS, "scan by M1")
    ids = vtk.vtkStringArray()
    for index in range(3):
        ids.InsertNextValue(node.GetSegmentation().GetNthSegmentID(index))
    exported = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.ExportSegmentsToLabelmapNode(node, ids, exported, volume)
    array = slicer.util.arrayFromVolume(exported)
    np.testing.assert_array_equal(array == 1, ARTERY_MASK & ~VEIN_MASK)
    np.testing.assert_array_equal(array == 2, VEIN_MASK)


def test_what_slicer_saves_of_it_is_what_the_library_writes(scene: Any, volume: Any, tmp_path: Path) -> None:
    node = add_segmentation(volume, labels_image(), LABELS[:2], "scan by M1")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(tmp_path / "saved.seg.nrrd"))
    assert storage.WriteData(node)
    write_seg_nrrd(labels_image(), LABELS[:2], tmp_path / "ours.seg.nrrd")
    saved, ours = (read_label_map(tmp_path / f"{name}.seg.nrrd", LABELS, GRID) for name in ("saved", "ours"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(saved.image), sitk.GetArrayFromImage(ours.image))
    assert saved.found == ours.found == ("Artery", "Gefäß & Co: 2")


def reference_geometry(node: Any) -> str:
    parameter = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    return str(node.GetSegmentation().GetConversionParameter(parameter))


def test_it_moves_with_the_volume(scene: Any, volume: Any) -> None:
    untransformed = reference_geometry(add_segmentation(volume, labels_image(), LABELS, "not moved"))
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Move")
    transform.SetMatrixTransformToParent(vtk_matrix(np.diag([-1.0, -1.0, 1.0, 1.0])))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    node = add_segmentation(volume, labels_image(volume_grid(volume)), LABELS, "moved")
    assert reference_geometry(node) == untransformed
    assert node.GetParentTransformNode() is transform
    transform.SetMatrixTransformToParent(vtk_matrix(np.eye(4)))
    np.testing.assert_array_equal(found_in(node, volume_grid(volume)), expected(artery=ARTERY_MASK, vein=VEIN_MASK))


def test_it_lies_beside_its_volume_in_the_subject_hierarchy(scene: Any, volume: Any) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "CT of yesterday")
    hierarchy.CreateItem(study, volume)
    node = add_segmentation(volume, labels_image(), LABELS, "scan by M1")
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_a_volume_that_was_moved_meanwhile_is_refused_and_nothing_is_left_behind(scene: Any, volume: Any) -> None:
    nodes = scene.GetNumberOfNodes()
    volume.SetOrigin(1, 2, 3)
    one_line(GeometryError, lambda: add_segmentation(volume, labels_image(), LABELS, "new"), "new", "'scan'", "origin")
    assert scene.GetNumberOfNodes() == nodes


def test_nothing_segmented_gives_empty_segments(scene: Any, volume: Any) -> None:
    node = add_segmentation(volume, GRID.image_of(np.zeros(SHAPE, np.uint8)), LABELS, "nothing")
    found = findings(drawn_on(node, GRID), LABELS, GRID)
    assert found.is_empty
    assert list(found.voxels) == [label.name for label in LABELS]
