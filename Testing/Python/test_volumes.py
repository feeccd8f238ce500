"""Reading and writing volumes: what goes in comes out, and everything unusable is refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from imaging_samples import counting_image, geometries, oblique, one_line

from MedSeqFTLib.errors import InputError, StorageError
from MedSeqFTLib.imaging.geometry import Geometry
from MedSeqFTLib.imaging.volumes import pixel_sha256, read_volume, write_volume

TYPES = [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]


def assert_same_places(found: Geometry, expected: Geometry, tolerance: float) -> None:
    """The corner voxels lie where they should, within `tolerance` mm."""
    for corner in np.indices((2, 2, 2)).reshape(3, -1).T * (np.array(expected.size) - 1):
        places = [np.array(grid.origin) + grid.index_to_world @ corner for grid in (found, expected)]
        np.testing.assert_allclose(*places, atol=tolerance)


# --- writing and reading ---------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=geometries())
@pytest.mark.parametrize(("suffix", "tolerance"), [(".nrrd", 1e-9), (".mha", 1e-3), (".nii.gz", 2e-3)])
def test_oblique_volumes_survive_a_file(tmp_path: Path, suffix: str, tolerance: float, grid: Geometry) -> None:
    image = counting_image(grid)
    path = tmp_path / f"scan{suffix}"
    write_volume(image, path)
    again = read_volume(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(again), sitk.GetArrayFromImage(image))
    assert again.GetPixelID() == image.GetPixelID()
    assert_same_places(Geometry.of(again), grid, tolerance)


def test_nibabel_sees_the_written_nifti_in_the_same_place(tmp_path: Path) -> None:
    image = counting_image(oblique())
    write_volume(image, tmp_path / "scan.nii.gz")
    other = nibabel.load(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(np.asarray(other.dataobj).T, sitk.GetArrayFromImage(image))
    for index in [(0, 0, 0), (6, 5, 4), (1, 4, 0)]:
        place = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        np.testing.assert_allclose((other.affine @ [*index, 1])[:3], place, atol=1e-4)


@pytest.mark.parametrize("dtype", TYPES)
def test_voxel_types_survive(tmp_path: Path, dtype: type) -> None:
    image = counting_image(oblique(), dtype)
    write_volume(image, tmp_path / "scan.nrrd")
    again = read_volume(tmp_path / "scan.nrrd")
    assert sitk.GetArrayFromImage(again).dtype == dtype


def test_a_written_file_holds_no_metadata_and_the_image_keeps_its_own(tmp_path: Path) -> None:
    image = counting_image(oblique())
    image.SetMetaData("0010|0010", "DOE^JOHN")
    write_volume(image, tmp_path / "scan.nrrd")
    assert b"DOE" not in (tmp_path / "scan.nrrd").read_bytes()
    assert image.GetMetaData("0010|0010") == "DOE^JOHN"


def test_names_with_dots_spaces_and_umlauts(tmp_path: Path) -> None:
    path = tmp_path / "Prüfung Nr. 1.2" / "scan.v2.1 ä.nrrd"
    path.parent.mkdir()
    write_volume(counting_image(oblique()), path)
    assert read_volume(path).GetSize() == oblique().size
    assert os.listdir(path.parent) == [path.name]


# --- writing that fails ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scan.png", "scan", "scan.mhd", "scan.nhdr", "scan.nii.bz2"])
def test_endings_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    one_line(InputError, lambda: write_volume(counting_image(oblique()), tmp_path / name), name, ".nrrd")
    assert not os.listdir(tmp_path)


def test_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "scan.nrrd"
    one_line(StorageError, lambda: write_volume(counting_image(oblique()), path), str(path))
    assert not os.listdir(tmp_path)


FULL_DISK = """
import resource, signal, sys
import numpy as np, SimpleITK as sitk
from MedSeqFTLib.errors import StorageError
from MedSeqFTLib.imaging.volumes import write_volume
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(40, 40, 40)).astype(np.float32))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write_volume(image, sys.argv[1])
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes can be limited on POSIX only")
@pytest.mark.parametrize("suffix", [".nrrd", ".nii", ".nii.gz", ".mha"])
def test_a_file_that_cannot_grow_leaves_the_old_one(tmp_path: Path, suffix: str) -> None:
    """ITK itself reports nothing when a NIfTI file is cut short."""
    path = tmp_path / f"scan{suffix}"
    write_volume(counting_image(oblique()), path)
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"Cannot write {path}")
    assert done.stdout.count("\n") == 1
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


# --- files that cannot be used ---------------------------------------------------------------------------------------


def write_image(image: sitk.Image, path: Path) -> Path:
    sitk.WriteImage(image, str(path))
    return path


def missing(folder: Path) -> Path:
    return folder / "missing.nrrd"


def empty(folder: Path) -> Path:
    (folder / "empty.nrrd").touch()
    return folder / "empty.nrrd"


def picture(folder: Path) -> Path:
    return write_image(sitk.Image(4, 4, sitk.sitkUInt8), folder / "slice.png")


def single_slice(folder: Path) -> Path:
    (folder / "slice.dcm").write_bytes(b"\0" * 200)
    return folder / "slice.dcm"


def flat(folder: Path) -> Path:
    return write_image(sitk.Image(4, 4, sitk.sitkUInt8), folder / "flat.nrrd")


def over_time(folder: Path) -> Path:
    return write_image(sitk.Image([4, 4, 4, 3], sitk.sitkInt16), folder / "time.nii.gz")


def colour(folder: Path) -> Path:
    return write_image(sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3), folder / "colour.nrrd")


def complex_valued(folder: Path) -> Path:
    return write_image(sitk.Image([4, 4, 4], sitk.sitkComplexFloat32), folder / "complex.nii")


BAD: dict[Callable[[Path], Path], tuple[str, ...]] = {
    missing: ("does not exist",),
    empty: ("not a NRRD file",),
    picture: ("unknown kind", ".nii.gz"),
    single_slice: ("unknown kind", "folder of the series"),
    flat: ("2 dimensions", "3D"),
    over_time: ("4 dimensions", "(4, 4, 4, 3)"),
    colour: ("3 values per voxel",),
    complex_valued: ("complex",),
}


@pytest.mark.parametrize("write", BAD)
def test_unusable_files_are_refused_quietly_and_left_alone(
    tmp_path: Path, write: Callable[[Path], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    one_line(InputError, lambda: read_volume(path), str(path), *BAD[write])
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii", ".nii.gz"])  # ITK makes NaN in NIfTI files 0
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinite_voxels_are_counted(tmp_path: Path, dtype: type, suffix: str) -> None:
    array = np.zeros((50, 60, 70), dtype)  # more than one chunk of a file
    array[20, 3, 4], array[49, 0, 0], array[20, 3, 5] = np.nan, np.inf, -np.inf
    path = write_image(sitk.GetImageFromArray(array), tmp_path / f"nan{suffix}")
    one_line(InputError, lambda: read_volume(path), str(path), "3 voxels", "(4, 3, 20)")


@pytest.mark.parametrize("suffix", [".nrrd", ".nii"])
def test_nan_is_not_written_either(tmp_path: Path, suffix: str) -> None:
    image = sitk.GetImageFromArray(np.full((2, 2, 2), np.nan))
    one_line(InputError, lambda: write_volume(image, tmp_path / f"a{suffix}"), f"a{suffix}", "8 voxels")
    assert not os.listdir(tmp_path)


def test_itk_warnings_stay_off_the_console_and_errors_are_raised(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert not sitk.ProcessObject.GetGlobalWarningDisplay()
    path = tmp_path / "scan.nrrd"
    write_volume(counting_image(oblique()), path)
    path.write_bytes(path.read_bytes().replace(b"encoding: gzip", b"encoding: gzap"))
    one_line(InputError, lambda: read_volume(path), str(path))
    assert capfd.readouterr() == ("", "")


# --- fingerprint of the voxels ---------------------------------------------------------------------------------------


def test_the_same_values_have_the_same_fingerprint(tmp_path: Path) -> None:
    image = counting_image(oblique())
    expected = pixel_sha256(image)
    assert len(expected) == 64
    for pixel_type in (sitk.sitkUInt8, sitk.sitkInt32, sitk.sitkFloat32, sitk.sitkFloat64):
        assert pixel_sha256(sitk.Cast(image, pixel_type)) == expected
    moved = sitk.Image(image)
    moved.SetOrigin((0, 0, 0))
    assert pixel_sha256(moved) == expected
    for suffix in (".nrrd", ".nii.gz", ".mha"):
        write_volume(image, tmp_path / f"scan{suffix}")
        assert pixel_sha256(read_volume(tmp_path / f"scan{suffix}")) == expected
    assert pixel_sha256(sitk.Image([2, 2, 2], sitk.sitkFloat32) * -1.0) == pixel_sha256(
        sitk.Image([2, 2, 2], sitk.sitkUInt8)
    )  # -0.0 is 0


def test_other_values_or_shapes_have_another_fingerprint() -> None:
    image = counting_image(oblique())
    changed = sitk.Image(image)
    changed[3, 2, 1] = changed[3, 2, 1] + 1
    array = sitk.GetArrayFromImage(image)
    turned = sitk.GetImageFromArray(array.reshape(array.shape[::-1]))
    slightly = sitk.Cast(image, sitk.sitkFloat32) + 1e-3
    assert len({pixel_sha256(each) for each in (image, changed, turned, slightly)}) == 4
