"""Segmentations that 3D Slicer's own code wrote, read by us, and ours read by Slicer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from imaging_samples import counting_image
from slicer_samples import (
    ARTERY,
    ARTERY_MASK,
    GRID,
    SHAPE,
    TUMOUR_MASK,
    VEIN,
    VEIN_MASK,
    SlicerScene,
    box,
    by_name,
    ijk_to_ras,
    write_volume_in_slicer,
)

from MedSeqFTLib.imaging.geometry import Geometry, difference
from MedSeqFTLib.imaging.seg_nrrd import read_segments
from MedSeqFTLib.imaging.segmentations import read_label_map, write_seg_nrrd
from MedSeqFTLib.imaging.volumes import read_volume
from MedSeqFTLib.workspace.schema import Label

LABELS = (
    Label(value=7, name="Artery", color=(0.9, 0.1, 0.123456789), code=ARTERY),
    Label(value=3, name="Gefäß & Co: 2", color=(0.0, 0.5, 0.25), code=VEIN),
    Label(value=200, name="tumour", color=(0.1, 0.2, 1.0)),
)
ENTRY = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^85756007^Tissue~{}~^^~"
    "Anatomic codes - DICOM master list~^^~^^"
)


@pytest.fixture
def drawn() -> SlicerScene:
    """Two overlapping segments and a third one; one was deleted and drawn again, so that label values are odd."""
    scene = SlicerScene()
    first = scene.add(GRID, ARTERY_MASK, "old", (1, 0, 0))
    scene.add(GRID, VEIN_MASK, "renamed by hand", (0, 0.5, 0.25), ENTRY.format("SCT^29092000^Vein"))
    scene.add(GRID, TUMOUR_MASK, "Tumour", (0, 0, 1))
    scene.collapse()
    scene.segmentation.RemoveSegment(first)
    scene.add(GRID, ARTERY_MASK, "Segment_9", (1, 0, 0), ENTRY.format("SCT^51114001^Artery"))
    scene.collapse()
    return scene


def test_what_slicer_wrote_is_read_by_code_and_name(drawn: SlicerScene, tmp_path: Path) -> None:
    path = tmp_path / "drawn.seg.nrrd"
    drawn.write(path)
    raw = sitk.ReadImage(str(path))
    segments = {segment.name: segment for segment in read_segments(raw, str(path))}
    assert raw.GetSize() != GRID.size  # Slicer cropped it
    assert raw.GetNumberOfComponentsPerPixel() == 2
    assert segments["Tumour"].code is None
    assert segments["Segment_9"].code == ARTERY
    assert segments["Segment_9"].layer != segments["renamed by hand"].layer
    assert segments["Segment_9"].value == segments["renamed by hand"].value

    found = read_label_map(path, LABELS, GRID)
    expected = np.zeros(SHAPE, np.uint8)
    for label, mask in zip(LABELS, (ARTERY_MASK, VEIN_MASK, TUMOUR_MASK), strict=True):
        expected[mask] = label.value  # the later label wins
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found.image), expected)
    assert Geometry.of(found.image) == GRID
    assert found.overlap_voxels == 9
    assert found.found == ("Artery", "Gefäß & Co: 2", "tumour")

    without_grid = read_label_map(path, LABELS)
    assert difference(Geometry.of(without_grid.image), Geometry.of(raw)) is None
    assert (sitk.GetArrayFromImage(without_grid.image) > 0).sum() == (expected > 0).sum()


def test_image_and_segmentation_of_slicer_fit_together(drawn: SlicerScene, tmp_path: Path) -> None:
    array = sitk.GetArrayFromImage(counting_image(GRID))
    write_volume_in_slicer(tmp_path / "scan.nrrd", GRID, array)
    drawn.write(tmp_path / "drawn.seg.nrrd")
    image = read_volume(tmp_path / "scan.nrrd")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
    assert difference(Geometry.of(image), GRID) is None
    found = read_label_map(tmp_path / "drawn.seg.nrrd", LABELS, Geometry.of(image))
    assert Geometry.of(found.image) == Geometry.of(image)
    assert (sitk.GetArrayFromImage(found.image) == 200).nonzero()[0].tolist() == [8, 8]


def test_slicer_reads_what_we_wrote_and_we_read_what_it_saves(tmp_path: Path) -> None:
    """The labels are apart from each other: a reader that takes the extent of one segment for all loses the others."""
    array = np.zeros(SHAPE, np.uint8)
    masks = {LABELS[0]: box((0, 2), (0, 3), (0, 2)), LABELS[1]: VEIN_MASK, LABELS[2]: box((8, 10), (10, 12), (12, 14))}
    for label, mask in masks.items():
        array[mask] = label.value
    path = tmp_path / "ours.seg.nrrd"
    write_seg_nrrd(GRID.image_of(array), LABELS, path)

    scene = SlicerScene()
    scene.read(path)
    read = by_name(scene.segments(GRID))
    assert list(read) == [label.name for label in LABELS]
    for label, mask in masks.items():
        segment = read[label.name]
        np.testing.assert_allclose(segment.color, label.color, atol=1e-6)
        np.testing.assert_array_equal(segment.mask, mask)
        np.testing.assert_allclose(segment.ijk_to_ras, ijk_to_ras(GRID), atol=1e-6)
        assert segment.value == label.value
    assert "~SCT^51114001^Artery~" in read["Artery"].terminology
    assert "~SCT^29092000^Vein~" in read["Gefäß & Co: 2"].terminology

    scene.write(tmp_path / "saved.seg.nrrd")
    again = read_label_map(tmp_path / "saved.seg.nrrd", LABELS, GRID)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(again.image), array)
    codes = [segment.code for segment in read_segments(sitk.ReadImage(str(tmp_path / "saved.seg.nrrd")), "saved")]
    assert codes == [ARTERY, VEIN, None]


def test_an_empty_segment_of_ours_stays_an_empty_segment_in_slicer(tmp_path: Path) -> None:
    array = np.where(VEIN_MASK, 3, 0).astype(np.uint8)
    write_seg_nrrd(GRID.image_of(array), LABELS[:2], tmp_path / "ours.seg.nrrd")
    scene = SlicerScene()
    scene.read(tmp_path / "ours.seg.nrrd")
    read = by_name(scene.segments(GRID))
    assert [segment.mask.sum() for segment in read.values()] == [0, VEIN_MASK.sum()]
    scene.write(tmp_path / "saved.seg.nrrd")
    again = read_label_map(tmp_path / "saved.seg.nrrd", LABELS, GRID)
    assert again.found == ("Artery", "Gefäß & Co: 2")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(again.image), array)
