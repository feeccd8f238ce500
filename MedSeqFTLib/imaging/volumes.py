"""Reading and writing volumes. Arrays are [z, y, x]; sizes and spacings x, y, z in mm; files are LPS."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from MedSeqFTLib.errors import GeometryError, InputError, StorageError
from MedSeqFTLib.imaging.dicom import read_series
from MedSeqFTLib.imaging.geometry import check_geometry
from MedSeqFTLib.imaging.headers import check_header, not_finite
from MedSeqFTLib.workspace.files import atomic_path

WRITABLE = (".nrrd", ".nii", ".nii.gz", ".mha")  # .nhdr and .mhd are two files, which cannot appear as one


def read_volume(path: Path | str) -> sitk.Image:
    """Read a scalar 3D volume from a NRRD, NIfTI or MetaImage file, or from a folder with exactly one DICOM series.

    The voxel type and values stay as stored (with the file's own rescaling, so CT is in HU).

    Raises:
        InputError: missing, unreadable or incomplete; 2D, 4D, colour or complex; NaN or infinite voxels; no or several
            DICOM series.
        GeometryError: zero, negative or missing spacing, a sheared grid, uneven slices.
    """
    path = Path(path)
    image = read_series(path) if path.is_dir() else read_image_file(path)
    where = str(path)
    _check_scalar(image, where)
    check_geometry(image, where)
    check_finite(image, where)
    return image


def read_image_file(path: Path) -> sitk.Image:
    """Read an image file as it is, of any dimension and with any number of components; its header is checked.

    Raises:
        InputError: missing, unreadable or incomplete.
        GeometryError: an unusable voxel grid in its header.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; a file is expected here.")
    check_header(path)
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        kind = GeometryError if "orthonormal" in str(error) else InputError
        raise kind(f"Cannot read {path}: {itk_reason(error)}") from error


def itk_reason(error: RuntimeError) -> str:
    """What an ITK error says happened: its last line, or a plainer word for it."""
    if "Unable to determine ImageIO" in str(error):
        return "SimpleITK knows no such file (NIfTI-2, for instance); convert it to NRRD or NIfTI-1"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("ITK ERROR: ") if lines else "no reason given"


def _check_scalar(image: sitk.Image, where: str) -> None:
    if image.GetDimension() != 3:
        raise InputError(
            f"{where} has {image.GetDimension()} dimensions, size {image.GetSize()}; "
            "a 3D volume is expected: export one volume of it."
        )
    if (components := image.GetNumberOfComponentsPerPixel()) > 1:
        raise InputError(
            f"{where} has {components} values per voxel (colour or vector); one is expected: export one of them."
        )
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(f"{where} has complex voxels; real ones are expected: export the magnitude.")


def check_finite(image: sitk.Image, where: str) -> None:
    """Refuse NaN and infinite voxels. Raises InputError with their number and the first one's place."""
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind != "f":
        return
    finite = np.isfinite(array)
    bad = finite.size - np.count_nonzero(finite)
    if bad:
        z, y, x = np.unravel_index(int(np.argmin(finite)), finite.shape)
        raise InputError(not_finite(where, bad, (int(x), int(y), int(z))))


def write_volume(image: sitk.Image, path: Path | str, within: Path | None = None) -> None:
    """Write a volume, compressed where the format can, atomically, and read it back to be sure.

    Metadata beside the grid is left out: it may hold a patient's name. `within` as of `atomic_path`.

    Raises:
        InputError: the file name's ending is not one of a format that can be written; NaN or infinite voxels.
        StorageError: the write failed; an earlier file of this name is untouched.
    """
    plain = sitk.Image(image)
    plain.MakeUnique()  # erasing would otherwise reach the caller's image
    for key in plain.GetMetaDataKeys():
        plain.EraseMetaData(key)
    write_image(plain, Path(path), within)


def write_image(image: sitk.Image, path: Path, within: Path | None = None, *, quick: bool = False) -> None:
    """As `write_volume`, with the metadata.

    Args:
        quick: neither compressed nor read back, only checked for completeness: for files that are read soon.
    """
    check_finite(image, f"The image for {path}")
    if not path.name.lower().endswith(WRITABLE):
        raise InputError(f"Cannot write {path}: its name must end with one of {', '.join(WRITABLE)}.")
    try:
        with atomic_path(path, within) as temporary:
            sitk.WriteImage(image, str(temporary), useCompression=not quick)
            _verify_complete(temporary)
            if not quick:
                _verify_voxels(temporary, image)
    except RuntimeError as error:
        raise StorageError(
            f"Cannot write {path}: {itk_reason(error)}; is there such a folder, and room on the disk?"
        ) from error


def _verify_complete(written: Path) -> None:
    """On a full disk ITK writes half a NIfTI file and reports nothing."""
    try:
        check_header(written)
    except InputError as error:
        raise RuntimeError("the file was not written completely") from error


def _verify_voxels(written: Path, image: sitk.Image) -> None:
    """Read a file back."""
    again = sitk.ReadImage(str(written))
    expected, found = sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(again)
    if not np.array_equal(expected, found):
        raise RuntimeError("reading it back gave other voxels")


def pixel_sha256(image: sitk.Image) -> str:
    """SHA-256 of size and voxel values, whatever the voxel type, file format, spacing or orientation matrix."""
    array = sitk.GetArrayViewFromImage(image)
    digest = hashlib.sha256(repr(array.shape).encode("ascii"))
    for plane in array:
        digest.update((plane.astype("<f8") + 0.0).tobytes())  # + 0.0 makes -0.0 the same as 0.0
    return digest.hexdigest()
