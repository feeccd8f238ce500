"""Folders of DICOM slices, written slice by slice. ITK alone stretches gaps and drops damaged slices without a word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from imaging_samples import oblique, one_line
from numpy.typing import NDArray

from MedSeqFTLib.errors import GeometryError, InputError
from MedSeqFTLib.imaging.dicom import slice_problem
from MedSeqFTLib.imaging.volumes import read_volume

PATIENT = "DOE^JOHN"
DISTANCE = 2.5
AXIAL = np.eye(3)


def write_series(
    folder: Path,
    *,
    uid: str = "1.2.3.4",
    description: str | None = "T1 axial",
    heights: Sequence[float] = tuple(DISTANCE * i for i in range(5)),
    sideways: float = 0.0,
    direction: NDArray[np.float64] = AXIAL,
    colour: bool = False,
) -> Path:
    """One file per height along the third column of `direction`, named in reverse order; slice i has values 100 i..."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for i, height in enumerate(heights):
        place = direction @ [10, 20 + sideways * height, height]
        values = (np.arange(20, dtype=np.int16) + 100 * i).reshape(4, 5)
        image = sitk.GetImageFromArray(
            np.stack([values.astype(np.uint8)] * 3, -1) if colour else values, isVector=colour
        )
        image.SetSpacing((0.8, 0.9))
        tags = {
            "0008|0060": "MR", "0010|0010": PATIENT, "0020|000d": "1.2.3", "0020|000e": uid, "0020|0052": "1.2.9",
            "0008|0018": f"{uid}.{i + 1}", "0020|0013": str(i + 1), "0018|0050": str(DISTANCE),
            "0020|0032": "\\".join(f"{value:.6f}" for value in place),
            "0020|0037": "\\".join(f"{value:.6f}" for value in direction.T[:2].ravel()),
        }  # fmt: skip
        for tag, value in tags.items() | ({"0008|103e": description}.items() if description else set()):
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{uid}-{99 - i}.dcm"))
        writer.Execute(image)
    return folder


@pytest.mark.parametrize("direction", [AXIAL, np.reshape(oblique().direction, (3, 3)) * [1, 1, -1]])
def test_a_series_becomes_a_volume(tmp_path: Path, direction: NDArray[np.float64]) -> None:
    direction = direction * [1, 1, np.linalg.det(direction)]  # slices follow their normal
    folder = write_series(tmp_path / "series", direction=direction)
    (folder / "notes.txt").write_text("not a slice", encoding="utf-8")
    image = read_volume(folder)
    assert image.GetSize() == (5, 4, 5)
    np.testing.assert_allclose(image.GetSpacing(), (0.8, 0.9, DISTANCE), atol=1e-5)
    np.testing.assert_allclose(image.GetDirection(), direction.ravel(), atol=1e-5)
    np.testing.assert_allclose(image.GetOrigin(), direction @ [10, 20, 0], atol=1e-5)
    assert sitk.GetArrayFromImage(image)[:, 0, 0].tolist() == [0, 100, 200, 300, 400]
    assert not any(PATIENT in image.GetMetaData(key) for key in image.GetMetaDataKeys())


def test_a_folder_without_a_series(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    write_series(tmp_path / "below")
    one_line(InputError, lambda: read_volume(tmp_path), str(tmp_path), "no DICOM series", "subfolders")


def test_several_series_are_listed_without_the_patient(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    write_series(folder, uid="1.2.3.5", description="T2 coronal", heights=(0, 3, 6))
    write_series(folder, uid="1.2.3.6", description=None, heights=(0, 3))
    message = one_line(
        InputError, lambda: read_volume(folder), "3 DICOM series", "'T1 axial' (5 files)", "'T2 coronal' (3 files)"
    )
    assert "'no description' (2 files)" in message
    assert "DOE" not in message


@pytest.mark.parametrize("heights", [(0, 2.5, 7.5, 10), (0, 2.5, 5, 5, 7.5), (0, 0, 0), (0, 2.5, 5.2, 7.5)])
def test_missing_doubled_and_uneven_slices(tmp_path: Path, heights: Sequence[float]) -> None:
    folder = write_series(tmp_path / "series", heights=heights)
    one_line(GeometryError, lambda: read_volume(folder), str(folder), "not evenly spaced", f"{len(heights)} slices")


def test_a_tilted_gantry(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", sideways=0.3)
    one_line(GeometryError, lambda: read_volume(folder), str(folder), "sheared")


def test_slices_in_several_directions(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", heights=(0, 2.5))
    write_series(
        tmp_path / "other", heights=(0, 1, 5.0), direction=np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    )
    (tmp_path / "other" / "1.2.3.4-97.dcm").rename(folder / "1.2.3.4-97.dcm")
    one_line(GeometryError, lambda: read_volume(folder), str(folder), "not parallel")


def test_a_damaged_slice_at_the_end_is_not_left_out(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    last = folder / "1.2.3.4-95.dcm"
    last.write_bytes(last.read_bytes()[:-20])
    one_line(InputError, lambda: read_volume(folder), str(last), "cannot be read")


def test_colour_slices(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", colour=True)
    one_line(InputError, lambda: read_volume(folder), str(folder), "3 values per voxel")


def test_rounded_positions_are_fine() -> None:
    heights = np.round(np.arange(600) * 0.6123, 2)
    positions = np.stack([np.full(600, -120.3), np.full(600, 85.1), heights], axis=1)
    assert slice_problem(positions, np.array([0.0, 0.0, 1.0])) is None
    assert slice_problem(positions[::-1], np.array([0.0, 0.0, 1.0])) is None
    assert "missing" in (slice_problem(np.delete(positions, 300, axis=0), np.array([0.0, 0.0, 1.0])) or "")
