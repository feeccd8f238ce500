"""Files with damaged or unusable headers, written byte by byte, because ITK would repair them without a word."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from imaging_samples import one_line, write_meta, write_nifti, write_nrrd

from MedSeqFTLib.errors import GeometryError, InputError
from MedSeqFTLib.imaging.volumes import read_volume

SHEARED = np.array([[1, 0.2, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7.0]])
LPS = "space: left-posterior-superior\nspace origin: (1,2,3)\n"
IDENTITY = "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\n"
NIFTI_KINDS = [(".nii", 1), (".nii.gz", 1), (".nii", 2), (".nii.gz", 2)]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_sound_nifti_is_read_as_nibabel_reads_it(tmp_path: Path, suffix: str, order: str) -> None:
    rows = np.array([[0.6, -1.6, 0, -7], [0.8, 1.2, 0, 8], [0, 0, 3, 9.0]])
    path = write_nifti(tmp_path / f"a{suffix}", sform=rows, pixdim=(1, 2, 3), order=order)
    image, other = read_volume(path), nibabel.load(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), other.get_fdata().T)
    for index in [(0, 0, 0), (3, 4, 5), (1, 0, 2)]:
        place = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        np.testing.assert_allclose(place, (other.affine @ [*index, 1])[:3], atol=1e-5)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sound_nifti_2_is_refused_as_long_as_itk_cannot_read_it(tmp_path: Path, order: str) -> None:
    path = write_nifti(tmp_path / "a.nii", version=2, order=order)
    assert nibabel.load(path).shape == (4, 5, 6)
    one_line(InputError, lambda: read_volume(path), str(path), "NIfTI-2", "convert")


@pytest.mark.parametrize(("suffix", "version"), NIFTI_KINDS)
@pytest.mark.parametrize("pixdim", [(1, 0, 1), (1, -2, 1), (float("nan"), 1, 1), (1, 1, float("inf"))])
def test_nifti_with_impossible_spacing(
    tmp_path: Path, suffix: str, version: int, pixdim: tuple[float, float, float]
) -> None:
    path = write_nifti(tmp_path / f"a{suffix}", pixdim=pixdim, version=version)
    one_line(GeometryError, lambda: read_volume(path), str(path), "spacing", "above 0")


@pytest.mark.parametrize(("suffix", "version"), NIFTI_KINDS)
@pytest.mark.parametrize("qform", [0, 1])  # with a sound qform beside it, ITK passes over the sheared matrix
def test_nifti_with_sheared_sform(tmp_path: Path, suffix: str, version: int, qform: int) -> None:
    path = write_nifti(tmp_path / f"a{suffix}", sform=SHEARED, pixdim=(1, 1.0198, 1), qform=qform, version=version)
    one_line(GeometryError, lambda: read_volume(path), str(path), "sheared")


def test_nifti_sheared_a_little_is_refused_too(tmp_path: Path) -> None:
    rows = np.array([[1, 0.0008, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.0]])
    path = write_nifti(tmp_path / "a.nii", sform=rows, qform=0)
    one_line(GeometryError, lambda: read_volume(path), str(path), "orthonormal")


def test_nifti_with_empty_sform(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", sform=np.zeros((3, 4)))
    one_line(GeometryError, lambda: read_volume(path), "spacing is (0, 0, 0)")


def test_nifti_that_states_two_voxel_sizes(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", sform=np.diag([2.0, 3, 4, 1])[:3], pixdim=(1, 1, 1))
    one_line(GeometryError, lambda: read_volume(path), "two voxel sizes", "(2.0, 3.0, 4.0)")


@pytest.mark.parametrize(("suffix", "version"), NIFTI_KINDS)
@pytest.mark.parametrize("lost", [1, 200, -100])
def test_nifti_that_ends_too_early(tmp_path: Path, suffix: str, version: int, lost: int) -> None:
    whole = write_nifti(tmp_path / f"a{suffix}", version=version).stat().st_size
    path = write_nifti(tmp_path / f"a{suffix}", version=version, keep=whole - lost if lost > 0 else -lost)
    one_line(InputError, lambda: read_volume(path), str(path))


def test_nifti_damaged_inside_gzip(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz")
    data = bytearray(path.read_bytes())
    data[-12] ^= 0xFF
    path.write_bytes(data)
    one_line(InputError, lambda: read_volume(path), str(path), "damaged")


def test_gzip_that_is_none_and_nifti_that_is_none(tmp_path: Path) -> None:
    plain = write_nifti(tmp_path / "a.nii")
    renamed = plain.rename(tmp_path / "b.nii.gz")
    one_line(InputError, lambda: read_volume(renamed), "b.nii.gz")
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(b"hello" * 200))
    one_line(InputError, lambda: read_volume(tmp_path / "c.nii.gz"), "not a NIfTI")


NRRD_BAD = {
    "spacings: 1 0 3": "above 0",
    "spacings: 1 -2 3": "above 0",
    "spacings: 1 nan 3": "above 0",
    "spacings: 1 two 3": "not numbers",
    "": "does not state its voxel size",
    LPS: "does not state its voxel size",
    LPS + "space directions: (0,0,0) (0,2,0) (0,0,3)": "above 0",
    LPS + "space directions: (nan,0,0) (0,2,0) (0,0,3)": "above 0",
    LPS + "space directions: (1,0,0) (0.3,2,0) (0,0,3)": "sheared",
    LPS + "space directions: (1,0,0) (1,0,0) (0,0,3)": "sheared",
}


@pytest.mark.parametrize("geometry", NRRD_BAD)
def test_nrrd_with_an_unusable_grid(tmp_path: Path, geometry: str) -> None:
    path = write_nrrd(tmp_path / "a.nrrd", geometry)
    one_line(GeometryError, lambda: read_volume(path), str(path), NRRD_BAD[geometry])


def test_sound_nrrd_with_spacings_only_and_in_ras(tmp_path: Path) -> None:
    plain = read_volume(write_nrrd(tmp_path / "a.nrrd", "spacings: 1 2 3"))
    assert plain.GetSpacing() == (1, 2, 3)
    ras = "space: right-anterior-superior\nspace directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (1,2,3)"
    turned = read_volume(write_nrrd(tmp_path / "b.nrrd", ras))
    assert turned.GetOrigin() == (-1, -2, 3)
    assert turned.GetDirection() == (-1, 0, 0, 0, -1, 0, 0, 0, 1)


def test_nrrd_whose_header_is_damaged(tmp_path: Path) -> None:
    path = write_nrrd(tmp_path / "a.nrrd", LPS + "space directions: (a,0,0) (0,2,0) (0,0,3)")
    one_line(InputError, lambda: read_volume(path), str(path), "damaged header")
    path.write_bytes(b"not an image")
    one_line(InputError, lambda: read_volume(path), str(path), "not a NRRD file")


META_BAD = {
    IDENTITY + "ElementSpacing = 1 0 3": "above 0",
    IDENTITY + "ElementSpacing = 1 -2 3": "above 0",
    IDENTITY + "ElementSpacing = 1 nan 3": "above 0",
    IDENTITY: "does not state its voxel size",
    "TransformMatrix = 1 0 0 0.3 1 0 0 0 1\nElementSpacing = 1 2 3": "sheared",
}


@pytest.mark.parametrize("geometry", META_BAD)
def test_meta_image_with_an_unusable_grid(tmp_path: Path, geometry: str) -> None:
    path = write_meta(tmp_path / "a.mha", geometry)
    one_line(GeometryError, lambda: read_volume(path), str(path), META_BAD[geometry])


def test_sound_meta_image(tmp_path: Path) -> None:
    image = read_volume(write_meta(tmp_path / "a.mha", IDENTITY + "ElementSpacing = 1 2 3"))
    assert image.GetSpacing() == (1, 2, 3)
    assert image[3, 4, 5] == 119


def damaged_meta(path: Path) -> Path:
    path.write_bytes(b"ObjectType = Image\nNDims = 3\n")
    return path


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_nrrd(folder / "a.nrrd", "spacings: 1 2 3", keep=-20),
        lambda folder: write_nrrd(folder / "a.nrrd", "spacings: 1 2 3", keep=60),
        lambda folder: write_meta(folder / "a.mha", IDENTITY + "ElementSpacing = 1 2 3", keep=-20),
        lambda folder: damaged_meta(folder / "a.mha"),
    ],
)
def test_other_files_that_end_too_early(
    tmp_path: Path, write: Callable[[Path], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path)
    one_line(InputError, lambda: read_volume(path), str(path))
    assert capfd.readouterr() == ("", "")


def test_compressed_nrrd_that_ends_too_early(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    noise = np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(path), useCompression=True)
    path.write_bytes(path.read_bytes()[:-300])
    one_line(InputError, lambda: read_volume(path), str(path))
