"""Reading one DICOM series from a folder. ITK drops what it cannot parse and stretches gaps; both are refused here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from MedSeqFTLib.errors import GeometryError, InputError
from MedSeqFTLib.imaging.dicom_lengths import check_lengths
from MedSeqFTLib.imaging.geometry import SHEAR_TOLERANCE

_DESCRIPTION, _POSITION, _ORIENTATION = "0008|103e", "0020|0032", "0020|0037"
_UNEVEN = 0.02  # of the slice distance: what scanners' rounding of positions explains


def read_series(folder: Path) -> sitk.Image:
    """Read the one series of a folder (subfolders are not searched), slices sorted by position.

    Raises:
        InputError: no series, several series, damaged files.
        GeometryError: slices missing, doubled, unevenly spaced or sheared by a tilted gantry.
    """
    _refuse_false_lengths(folder)
    series = _series_of(folder)
    _refuse_unparsed(folder, {Path(name).name for names in series.values() for name in names})
    if not series:
        raise InputError(
            f"{folder} holds no DICOM series (subfolders are not searched); give the folder with the slices."
        )
    if len(series) > 1:
        listed = "; ".join(f"{_description(names[0])!r} ({len(names)} files)" for names in series.values())
        raise InputError(
            f"{folder} holds {len(series)} DICOM series, but one is expected: {listed}. Copy one to its own folder."
        )
    return _read(folder, next(iter(series.values())))


def _series_of(folder: Path) -> dict[str, tuple[str, ...]]:
    """The files of every series by its UID."""
    try:
        found = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        return {uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in found}
    except (RuntimeError, TypeError) as error:  # TypeError: a UID that is no text
        reason = " ".join(str(error).splitlines()[-1].split())
        raise InputError(f"{folder} holds a damaged DICOM file ({reason}); copy the series again.") from error


def _refuse_false_lengths(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_file() and _looks_like_dicom(path):
            check_lengths(path)


def _refuse_unparsed(folder: Path, parsed: set[str]) -> None:
    """A slice that is cut off would be missing without a word."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in parsed and path.name.upper() != "DICOMDIR" and _looks_like_dicom(path):
            raise InputError(
                f"{path} is a DICOM file that cannot be read; copy it again, or move it away if it is no image."
            )


def _looks_like_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error


def _description(file: str) -> str:
    """What the scanner's operator called a series; never anything about the patient."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError:  # a report, contours, ...
        return "not an image"
    return reader.GetMetaData(_DESCRIPTION).strip() if reader.HasMetaDataKey(_DESCRIPTION) else "no description"


def _read(folder: Path, files: tuple[str, ...]) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        image: sitk.Image = reader.Execute()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"Cannot read the DICOM series of {folder}: {reason}") from error
    if len(files) > 1:
        _check_slices(folder, reader, len(files))
    return image


def _check_slices(folder: Path, reader: sitk.ImageSeriesReader, count: int) -> None:
    if not all(reader.HasMetaDataKey(i, key) for i in range(count) for key in (_POSITION, _ORIENTATION)):
        raise GeometryError(f"{folder}: not every slice states its position and orientation; export the series again.")
    try:
        positions = np.array([_numbers(reader.GetMetaData(i, _POSITION), 3) for i in range(count)])
        orientations = np.array([_numbers(reader.GetMetaData(i, _ORIENTATION), 6) for i in range(count)])
    except ValueError as error:
        raise GeometryError(
            f"{folder}: a slice states its place wrongly ({error}); export the series again."
        ) from error
    if np.abs(orientations - orientations[0]).max() > SHEAR_TOLERANCE:
        raise GeometryError(
            f"{folder}: its slices are not parallel; move those of one orientation to their own folder."
        )
    if problem := slice_problem(positions, np.cross(orientations[0, :3], orientations[0, 3:])):
        raise GeometryError(f"{folder}: {problem}.")


def slice_problem(positions: npt.NDArray[np.float64], normal: npt.NDArray[np.float64]) -> str | None:
    """What is wrong with slices at `positions` [n, 3] (mm, in order, n > 1) whose normal is `normal` [3], or None."""
    steps = np.diff(positions, axis=0) @ normal
    mean = steps.mean()
    uneven = np.abs(steps - mean) > _UNEVEN * abs(mean)
    if mean == 0 or uneven.any():
        worst = int(np.argmax(np.abs(steps - mean)))
        return (
            f"its {len(positions)} slices are not evenly spaced ({abs(mean):.4g} mm on average, "
            f"{abs(steps[worst]):.4g} mm between slices {worst + 1} and {worst + 2}): slices are missing or doubled"
        )
    total = positions[-1] - positions[0]
    sideways = np.linalg.norm(total - (total @ normal) * normal)
    if sideways > SHEAR_TOLERANCE * abs(total @ normal):
        return "its slices are sheared (tilted gantry), which is not supported; resample them to a regular grid first"
    return None


def _numbers(text: str, count: int) -> npt.NDArray[np.float64]:
    """Raises ValueError for other than `count` finite numbers."""
    numbers = np.array([float(number) for number in text.split("\\")])
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ValueError(f"{count} numbers are expected, not {text!r}")
    return numbers
