"""Label maps and .seg.nrrd files: matching of labels, merging of layers, and everything that is refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imaging_samples import geometries, oblique, one_line, write_nifti

from MedSeqFTLib.errors import GeometryError, InputError, StorageError
from MedSeqFTLib.imaging.geometry import Geometry, difference
from MedSeqFTLib.imaging.seg_nrrd import DEFAULT_CODE, Segment, read_segments
from MedSeqFTLib.imaging.segmentations import label_of, read_label_map, write_label_map, write_seg_nrrd
from MedSeqFTLib.workspace.schema import Code, Label

GRID = oblique()
SHAPE = GRID.size[::-1]
KIDNEY = Code(scheme="SCT", value="64033007", meaning="Kidney")
LIVER = Code(scheme="SCT", value="10200004", meaning="Liver")
LABELS = (
    Label(value=5, name="Liver", color=(0.5, 0.25, 0.125), code=LIVER),
    Label(value=2, name="Left kidney", color=(1, 0, 0), code=KIDNEY),
    Label(value=3, name="Right kidney", color=(0, 1, 0), code=KIDNEY),
    Label(value=255, name="Tumour", color=(0, 0, 1)),
)


def labelled(*values: int) -> sitk.Image:
    """A label map whose voxel i along x of the first plane has values[i]."""
    array = np.zeros(SHAPE, np.uint8)
    array[0, 0, : len(values)] = values
    return GRID.image_of(array)


def values_of(image: sitk.Image) -> list[int]:
    """The first voxels along x, as `labelled` takes them."""
    array = sitk.GetArrayFromImage(image)
    assert not array[1:].any()
    return array[0, 0, :4].tolist()


def entry(code: Code) -> str:
    kind = f"{code.scheme}^{code.value}^{code.meaning}"
    return (
        f"Segmentation.Status:inprogress|TerminologyEntry:list~SCT^123037004^Anatomical Structure~{kind}~^^~list~^^~^^|"
    )


def write_segmentation(
    path: Path, layers: Sequence[Sequence[int]], segments: Sequence[dict[str, str]], *, fourth_axis: bool = False
) -> Path:
    """Write a .seg.nrrd with SimpleITK alone: a vector of layers, or layers along a fourth axis."""
    arrays = [sitk.GetArrayFromImage(labelled(*values)) for values in layers]
    if fourth_axis:
        image = sitk.JoinSeries([GRID.image_of(array) for array in arrays])
    elif len(arrays) > 1:
        image = sitk.GetImageFromArray(np.stack(arrays, -1), isVector=True)
        GRID.copy_to(image)
    else:
        image = GRID.image_of(arrays[0])
    for index, fields in enumerate(segments):
        for field, value in ({"ID": f"Segment_{index}", "Name": f"Segment_{index}"} | fields).items():
            image.SetMetaData(f"Segment{index}_{field}", value)
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


# --- plain label maps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
@pytest.mark.parametrize("pixel_type", [sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt32, sitk.sitkFloat64])
def test_plain_label_maps_go_by_value(tmp_path: Path, suffix: str, pixel_type: int) -> None:
    path = tmp_path / f"labels{suffix}"
    sitk.WriteImage(sitk.Cast(labelled(3, 5, 255), pixel_type), str(path))
    found = read_label_map(path, LABELS, GRID)
    assert values_of(found.image) == [3, 5, 255, 0]
    assert found.image.GetPixelID() == sitk.sitkUInt8
    assert Geometry.of(found.image) == GRID  # bit by bit, though NIfTI rounds
    assert found.found == ("Liver", "Right kidney", "Tumour")
    assert found.overlap_voxels == 0


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=geometries(), seed=st.integers(0, 2**32 - 1))
def test_what_is_written_is_read(tmp_path: Path, grid: Geometry, seed: int) -> None:
    array = np.random.default_rng(seed).choice([0, 2, 3, 5, 255], size=grid.size[::-1]).astype(np.uint8)
    array.flat[0] = 2
    image = grid.image_of(array)
    write_seg_nrrd(image, LABELS, tmp_path / "a.seg.nrrd")
    write_label_map(image, tmp_path / "a.nii.gz")
    for name in ("a.seg.nrrd", "a.nii.gz"):
        found = read_label_map(tmp_path / name, LABELS, grid)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found.image), array)
        assert Geometry.of(found.image) == grid
    same = read_label_map(tmp_path / "a.seg.nrrd", LABELS)
    assert difference(Geometry.of(same.image), grid) is None


# --- segments --------------------------------------------------------------------------------------------------------


def test_segments_go_by_code_then_name_never_by_value(tmp_path: Path) -> None:
    """The same labels in three orders with other values: what is read stays the same."""
    left, liver, tumour = {"Name": "LEFT KIDNEY "}, {"Name": "Leber", "Tags": entry(LIVER)}, {"Name": "tumour"}
    for order, values in (
        ((left, liver, tumour), (1, 2, 3)),
        ((tumour, left, liver), (3, 1, 2)),
        ((liver, tumour, left), (2, 3, 1)),
    ):
        fields = [segment | {"LabelValue": str(place + 1), "Layer": "0"} for place, segment in enumerate(order)]
        at = {id(segment): place + 1 for place, segment in enumerate(order)}
        path = write_segmentation(tmp_path / "a.seg.nrrd", [[at[id(left)], at[id(liver)], at[id(tumour)]]], fields)
        assert sorted(values) == [1, 2, 3]
        found = read_label_map(path, LABELS)
        assert values_of(found.image) == [2, 5, 255, 0]
        assert found.found == ("Liver", "Left kidney", "Tumour")


@pytest.mark.parametrize("fourth_axis", [False, True])
def test_layers_are_merged_and_overlap_is_counted(tmp_path: Path, fourth_axis: bool) -> None:
    segments = [
        {"Name": "Tumour", "LabelValue": "1", "Layer": "0"},
        {"Name": "Liver", "LabelValue": "1", "Layer": "1"},
        {"Name": "Left kidney", "LabelValue": "2", "Layer": "1"},
    ]
    path = write_segmentation(tmp_path / "a.seg.nrrd", [[1, 1, 0, 0], [1, 2, 2, 1]], segments, fourth_axis=fourth_axis)
    found = read_label_map(path, LABELS, GRID)
    assert values_of(found.image) == [255, 255, 2, 5]  # the tumour is the task's last label
    assert found.overlap_voxels == 2


def test_two_segments_of_one_label_do_not_compete(tmp_path: Path) -> None:
    segments = [{"Name": "tumour", "LabelValue": "1", "Layer": str(layer)} for layer in (0, 1)]
    found = read_label_map(write_segmentation(tmp_path / "a.seg.nrrd", [[1, 1], [0, 1, 1]], segments), LABELS)
    assert values_of(found.image) == [255, 255, 255, 0]
    assert found.overlap_voxels == 0


def test_files_of_old_slicer_have_one_layer_a_segment(tmp_path: Path) -> None:
    path = write_segmentation(tmp_path / "a.seg.nrrd", [[1, 0], [0, 1]], [{"Name": "Liver"}, {"Name": "Tumour"}])
    assert values_of(read_label_map(path, LABELS).image) == [5, 255, 0, 0]


def test_segments_are_recognised_without_the_double_ending(tmp_path: Path) -> None:
    path = write_segmentation(tmp_path / "a.nrrd", [[9]], [{"Name": "Liver", "LabelValue": "9", "Layer": "0"}])
    assert values_of(read_label_map(path, LABELS).image) == [5, 0, 0, 0]


def test_an_empty_segment_is_found_and_an_empty_stranger_is_ignored(tmp_path: Path) -> None:
    segments = [
        {"Name": name, "LabelValue": str(i + 1), "Layer": "0"} for i, name in enumerate(["Liver", "Tumour", "x"])
    ]
    found = read_label_map(write_segmentation(tmp_path / "a.seg.nrrd", [[2]], segments), LABELS)
    assert found.found == ("Liver", "Tumour")  # the liver is absent, the kidneys are unknown


def segment(name: str, code: Code | None = None) -> Segment:
    return Segment("Segment_1", name, 1, 0, (0, 0, 0), code)


def test_names_decide_between_labels_of_one_code() -> None:
    assert label_of(segment("right kidney", KIDNEY), LABELS, "a") == LABELS[2]
    assert label_of(segment("anything", LIVER), LABELS, "a") == LABELS[0]
    assert label_of(segment("Tumour", Code(scheme="SCT", value="1", meaning="Mass")), LABELS, "a") == LABELS[3]
    assert label_of(segment("spleen"), LABELS, "a") is None
    one_line(
        InputError, lambda: label_of(segment("Niere", KIDNEY), LABELS, "a"), "'Niere'", "'Left kidney', 'Right kidney'"
    )
    one_line(InputError, lambda: label_of(segment("Tumour", LIVER), LABELS, "a"), "'Tumour'", "'Liver'", "correct")


def test_slicers_default_terminology_means_nothing(tmp_path: Path) -> None:
    scheme, value = DEFAULT_CODE
    tags = entry(Code(scheme=scheme, value=value, meaning="Tissue"))
    path = write_segmentation(tmp_path / "a.seg.nrrd", [[1]], [{"Name": "Tumour", "Tags": tags, "Layer": "0"}])
    assert read_segments(sitk.ReadImage(str(path)), "a")[0].code is None


# --- what cannot be used ---------------------------------------------------------------------------------------------


def test_unknown_values_and_segments_are_listed_with_the_known_ones(tmp_path: Path) -> None:
    plain = tmp_path / "a.nrrd"
    sitk.WriteImage(labelled(2, 9, 1), str(plain))
    one_line(InputError, lambda: read_label_map(plain, LABELS), str(plain), "values 1, 9", "5 'Liver'", "255 'Tumour'")
    fields = [{"Name": "Spleen", "LabelValue": "4", "Layer": "0"}, {"Name": "Liver", "LabelValue": "2", "Layer": "0"}]
    path = write_segmentation(tmp_path / "a.seg.nrrd", [[4, 2]], fields)
    one_line(
        InputError, lambda: read_label_map(path, LABELS), str(path), "['Spleen']", "'Left kidney'", "rename or delete"
    )


def test_nothing_segmented(tmp_path: Path) -> None:
    sitk.WriteImage(labelled(), str(tmp_path / "a.nrrd"))
    write_seg_nrrd(labelled(), LABELS, tmp_path / "a.seg.nrrd")
    for name in ("a.nrrd", "a.seg.nrrd"):
        one_line(
            InputError, lambda name=name: read_label_map(tmp_path / name, LABELS, GRID), name, "empty segmentation"
        )


def test_another_grid(tmp_path: Path) -> None:
    write_label_map(labelled(2), tmp_path / "a.nrrd")
    shifted = replace(GRID, origin=(0.0, 0.0, 0.0))
    one_line(GeometryError, lambda: read_label_map(tmp_path / "a.nrrd", LABELS, shifted), "a.nrrd", "origin")


def test_a_nifti_label_map_with_a_broken_header(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", np.ones((3, 3, 3), np.float32), pixdim=(1, 0, 1))
    one_line(GeometryError, lambda: read_label_map(path, LABELS), str(path), "above 0")


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (sitk.Image([4, 4, 4], sitk.sitkFloat32) + 0.5, "whole numbers"),
        (sitk.Image([4, 4, 4], sitk.sitkFloat32) + float("nan"), "NaN"),
        (sitk.Image([4, 4, 4], sitk.sitkInt16) - 1, "from -1 to -1"),
        (sitk.Image([4, 4, 4], sitk.sitkUInt32) + 70000, "70000"),
        (sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3), "3 values per voxel"),
        (sitk.Image([4, 4, 4, 2], sitk.sitkUInt8), "2 values per voxel or time points"),
        (sitk.Image([4, 4], sitk.sitkUInt8) + 1, "3D"),
        (sitk.Image([4, 4, 4], sitk.sitkComplexFloat32), "complex"),
    ],
)
def test_images_that_are_no_label_maps(tmp_path: Path, image: sitk.Image, word: str) -> None:
    path = tmp_path / "a.nii"
    sitk.WriteImage(image, str(path))
    with pytest.raises(InputError) as caught:
        read_label_map(path, LABELS)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


BROKEN: dict[str, tuple[dict[str, str], str]] = {
    "layer": ({"Name": "Liver", "LabelValue": "1", "Layer": "3"}, "layer 3"),
    "value": ({"Name": "Liver", "LabelValue": "one", "Layer": "0"}, "wrongly"),
    "big value": ({"Name": "Liver", "LabelValue": "70000", "Layer": "0"}, "70000"),
    "colour": ({"Name": "Liver", "Color": "1 0", "LabelValue": "1", "Layer": "0"}, "wrongly"),
    "left over": ({"Name": "Liver", "LabelValue": "2", "Layer": "0"}, "values 1 that belong to no segment"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_segments_that_are_described_wrongly(tmp_path: Path, case: str) -> None:
    fields, word = BROKEN[case]
    path = write_segmentation(tmp_path / "a.seg.nrrd", [[1]], [fields])
    one_line(InputError, lambda: read_label_map(path, LABELS), str(path), word)


def test_two_segments_that_claim_the_same_voxels_by_value(tmp_path: Path) -> None:
    fields = [{"Name": name, "LabelValue": "1", "Layer": "0"} for name in ("Liver", "Tumour")]
    path = write_segmentation(tmp_path / "a.seg.nrrd", [[1]], fields)
    one_line(InputError, lambda: read_label_map(path, LABELS), str(path), "'Tumour'", "value 1")


def test_seg_nrrd_without_segments_and_fractional_ones(tmp_path: Path) -> None:
    bare = write_segmentation(tmp_path / "a.seg.nrrd", [[5]], [])
    one_line(InputError, lambda: read_label_map(bare, LABELS), str(bare), "belong to no segment")
    image = labelled(5)
    image.SetMetaData("Segmentation_MasterRepresentation", "Fractional labelmap")
    sitk.WriteImage(image, str(bare))
    one_line(InputError, lambda: read_label_map(bare, LABELS), "Fractional labelmap", "Binary labelmap")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    one_line(InputError, lambda: read_label_map(tmp_path / "x.nrrd", LABELS), "x.nrrd", "does not exist")
    one_line(InputError, lambda: read_label_map(tmp_path, LABELS), str(tmp_path), "a folder")


# --- writing that is refused -----------------------------------------------------------------------------------------


def test_nothing_wrong_is_written(tmp_path: Path) -> None:
    odd = (LABELS[0].model_copy(update={"code": Code(scheme="SCT", value="1", meaning="a|b")}),)
    one_line(InputError, lambda: write_seg_nrrd(labelled(2, 9), LABELS, tmp_path / "a.seg.nrrd"), "values 9", "'Liver'")
    one_line(InputError, lambda: write_seg_nrrd(labelled(5), LABELS, tmp_path / "a.nrrd"), ".seg.nrrd")
    one_line(InputError, lambda: write_seg_nrrd(labelled(5), odd, tmp_path / "a.seg.nrrd"), "a|b")
    one_line(InputError, lambda: write_label_map(labelled(5), tmp_path / "a.seg.nrrd"), ".seg.nrrd")
    large = sitk.Cast(labelled(5), sitk.sitkInt16) * 100
    one_line(InputError, lambda: write_label_map(large, tmp_path / "a.nrrd"), "500")
    one_line(StorageError, lambda: write_seg_nrrd(labelled(5), LABELS, tmp_path / "no" / "a.seg.nrrd"), "a.seg.nrrd")
    assert not os.listdir(tmp_path)
