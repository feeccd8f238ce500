"""What image files say about themselves, read without ITK.

ITK repairs some damage without a word: a voxel size of 0 becomes 1, a negative one positive, a sheared NIfTI matrix is
passed over in favour of another one, NaN in NIfTI becomes 0, and a NIfTI file that ends too early is filled up with
zeros. A segmentation made of that is wrong, so these files are refused before ITK sees them.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from MedSeqFTLib.errors import GeometryError, InputError
from MedSeqFTLib.imaging import claims
from MedSeqFTLib.imaging.geometry import direction_problem, spacing_problem

READABLE = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")

_CHUNK = 1 << 20  # bytes
_LONGEST_FIELD = 1000  # bytes
_SCALE_TOLERANCE = 5e-3  # between the two places in which NIfTI states the voxel size; some writers round one of them
_AFTER = 64 << 20  # bytes that may lie before or behind the voxels of a NIfTI file: nobody needs as many


def check_header(path: Path) -> None:
    """Refuse a file that ITK would repair silently.

    Raises:
        InputError: of an unknown kind, unreadable, ending too early, or NaN voxels in NIfTI.
        GeometryError: voxel spacing missing, zero, negative or not finite; axes zero or sheared.
    """
    check = _checker(path)
    try:
        check(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is damaged or incomplete ({error}); copy or export it again.") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path} has a damaged header ({error}); copy or export it again.") from error


def _checker(path: Path) -> Callable[[Path], None]:
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return _check_nifti
    if name.endswith((".nrrd", ".nhdr")):
        return _check_nrrd
    if name.endswith((".mha", ".mhd")):
        return _check_meta
    hint = "; for DICOM give the folder of the series" if name.endswith((".dcm", ".ima")) else ""
    raise InputError(f"{path} is of an unknown kind: expected one of {', '.join(READABLE)}{hint}.")


def _check_spacing(path: Path, spacing: Sequence[float]) -> None:
    if problem := spacing_problem(spacing):
        raise GeometryError(f"{path}: {problem}; correct its header.")


def _check_axes(path: Path, axes: npt.NDArray[np.float64]) -> None:
    """Axes [3, 3]: one column per voxel axis, in mm."""
    lengths = np.linalg.norm(axes, axis=0)
    _check_spacing(path, lengths.tolist())
    if problem := direction_problem(axes / lengths):
        raise GeometryError(f"{path}: {problem}.")


# --- NIfTI-1 and NIfTI-2: a binary header, possibly within gzip ------------------------------------------------------


def _check_nifti(path: Path) -> None:
    compressed = path.name.lower().endswith(".gz")
    with gzip.open(path) if compressed else path.open("rb") as file:
        head = file.read(540)
        layout, order = _nifti_layout(path, head)

        def values(name: str) -> tuple[float, ...]:
            offset, kind = layout[name]
            return struct.unpack_from(order + kind, head, offset)

        _check_nifti_grid(path, values)
        dim = [int(value) for value in values("dim")]
        sizes = [max(1, size) for size in dim[1 : dim[0] + 1]]
        datatype, bits = (int(value) for value in values("datatype"))
        needed = math.prod(sizes) * max(math.ceil(bits / 8), _NIFTI_BYTES.get(datatype, 1))
        if compressed:
            claims.refuse_packed(path, needed, path.stat().st_size)
        begin = max(int(values("vox_offset")[0]), layout["end"][0])
        if begin > _AFTER:
            raise InputError(f"{path} has a damaged header: its voxels begin at byte {begin}; export it again.")
        file.seek(begin)
        if compressed or datatype in _NIFTI_FLOATS:
            length = _scan_voxels(
                path, cast(BinaryIO, file), np.dtype(order + _NIFTI_FLOATS.get(datatype, "u1")), needed, sizes
            )
        else:
            length = path.stat().st_size - file.tell()
    claims.refuse_unpacked(path, needed, length)


def _scan_voxels(path: Path, file: BinaryIO, dtype: np.dtype[Any], needed: int, sizes: Sequence[int]) -> int:
    """Read to the end, which checks compressed data, and refuse NaN, which ITK would make 0. Returns the bytes read."""
    length = bad = first = 0
    while chunk := file.read(_CHUNK):
        voxels = chunk[: max(0, needed - length)]
        finite = np.isfinite(np.frombuffer(voxels[: len(voxels) - len(voxels) % dtype.itemsize], dtype))
        if not bad and not finite.all():
            first = length // dtype.itemsize + int(np.argmin(finite))
        bad += finite.size - int(np.count_nonzero(finite))
        length += len(chunk)
        if length > needed + _AFTER:
            raise InputError(f"{path} goes on behind its {needed} bytes of voxels; export it again.")
    if bad:
        raise InputError(not_finite(str(path), bad, tuple(int(place) for place in np.unravel_index(first, sizes, "F"))))
    return length


def not_finite(where: str, count: int, first: tuple[int, ...]) -> str:
    """The message about NaN or infinite voxels; `first` is the place (x, y, z) of the first one."""
    return (
        f"{where} has {count} voxels that are NaN or infinite, the first at {first} (x, y, z); replace them by numbers."
    )


def _check_nifti_grid(path: Path, values: Callable[[str], tuple[float, ...]]) -> None:
    if values("dim")[0] < 3:  # refused later, whatever its spacing
        return
    pixdim = values("pixdim")[1:4]
    _check_spacing(path, pixdim)
    if values("sform_code")[0] > 0:
        _check_sform(path, np.reshape(values("srow"), (3, 4))[:, :3], pixdim)


def _check_sform(path: Path, axes: npt.NDArray[np.float64], pixdim: Sequence[float]) -> None:
    _check_axes(path, axes)
    lengths = np.linalg.norm(axes, axis=0)
    if not np.allclose(lengths, pixdim, rtol=_SCALE_TOLERANCE, atol=0.0):
        stated = " against ".join(str(tuple(float(f"{v:.5g}") for v in spacing)) for spacing in (pixdim, lengths))
        raise GeometryError(f"{path} states two voxel sizes, pixdim {stated} mm of sform; correct its header.")


_NIFTI_1 = {
    "dim": (40, "8h"), "datatype": (70, "2h"), "pixdim": (76, "8f"), "vox_offset": (108, "f"),
    "sform_code": (254, "h"), "srow": (280, "12f"), "end": (348, ""),
}  # fmt: skip
_NIFTI_2 = {
    "dim": (16, "8q"), "datatype": (12, "2h"), "pixdim": (104, "8d"), "vox_offset": (168, "q"),
    "sform_code": (348, "i"), "srow": (400, "12d"), "end": (540, ""),
}  # fmt: skip
_NIFTI_FLOATS = {16: "f4", 64: "f8"}  # by datatype, which is followed by the bits per voxel
_NIFTI_BYTES = {
    2: 1, 4: 2, 8: 4, 16: 4, 32: 8, 64: 8, 128: 3, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8, 1536: 16, 1792: 16,
    2048: 32, 2304: 4,
}  # fmt: skip


def _nifti_layout(path: Path, head: bytes) -> tuple[dict[str, tuple[int, str]], str]:
    """Where the fields are, and the byte order (as struct names it)."""
    for size, layout, magic in ((348, _NIFTI_1, head[344:348]), (540, _NIFTI_2, head[4:8])):
        for order in "<>":
            if len(head) >= size and struct.unpack_from(order + "i", head)[0] == size and magic[:2] == b"n+":
                return layout, order
    raise InputError(f"{path} is not a NIfTI file in one piece (.nii, .nii.gz), or it is damaged.")


# --- NRRD: lines of text before an empty line -------------------------------------------------------------------------


def _check_nrrd(path: Path) -> None:
    fields, start = _nrrd_fields(path)
    vectors = [
        [float(number) for number in vector.split(",")]
        for vector in re.findall(r"\(([^)]*)\)", fields.get("space directions", ""))
    ]
    if len(vectors) == 3 and all(len(vector) == 3 for vector in vectors):
        _check_axes(path, np.array(vectors).T)
    elif not vectors and fields.get("dimension") == "3":
        _check_spacing(path, _required_numbers(path, fields, "spacings"))
    claims.check_nrrd(path, fields, start)


def _nrrd_fields(path: Path) -> tuple[dict[str, str], int]:
    """The header's fields and where it ends."""
    with path.open("rb") as file:
        if not file.readline(_CHUNK).startswith(b"NRRD"):
            raise InputError(f"{path} is not a NRRD file, or it is damaged.")
        fields: dict[str, str] = {}
        while line := file.readline(_CHUNK):
            if not line.strip():
                return fields, file.tell()
            _add_nrrd_line(path, fields, line)
        if not {"data file", "datafile"} & fields.keys():
            raise InputError(f"{path} is incomplete: it ends within its header; copy or export it again.")
        return fields, file.tell()


def _add_nrrd_line(path: Path, fields: dict[str, str], line: bytes) -> None:
    """A field, `key: value`; or a remark, `key:=value` or #, which may be as long as it likes.

    ITK writes its complaint about a long or unknown field beyond the end of its memory.
    """
    key, between, value = line.partition(b":")
    if b"\r" in line.rstrip(b"\r\n"):  # where ITK begins a new line
        raise InputError(f"{path} has a damaged header: a line of it is broken; export it again.")
    if line.startswith(b"#"):
        return
    if value.startswith(b"="):
        _refuse_odd_key(path, key)
    elif not between or len(line) > _LONGEST_FIELD:
        raise InputError(f"{path} has a damaged header: {line[:40]!r} is no field of NRRD; export it again.")
    else:
        _add(path, fields, key.decode("utf-8", "replace").strip().lower(), value.decode("utf-8", "replace").strip())


def _refuse_odd_key(path: Path, key: bytes) -> None:
    """SimpleITK cannot look up, or take away, what has such a key."""
    if not key.decode("utf-8", "surrogateescape").strip().isprintable():
        raise InputError(f"{path} has a damaged header: a key is {key[:40]!r}; export it again.")


def _add(path: Path, fields: dict[str, str], key: str, value: str) -> None:
    """A field that stands there twice would be understood in two ways."""
    if key in fields:
        raise InputError(f"{path} has a damaged header: {key!r} stands there twice; export it again.")
    fields[key] = value


def _required_numbers(path: Path, fields: dict[str, str], *keys: str) -> list[float]:
    text = next((fields[key] for key in keys if key in fields), None)
    if text is None:
        raise GeometryError(
            f"{path} does not state its voxel size ({' or '.join(keys)}); export it again with its geometry."
        )
    try:
        return [float(number) for number in text.split()]
    except ValueError as error:
        raise GeometryError(f"{path}: the voxel size {text!r} is not numbers; correct its header.") from error


# --- MetaImage: lines `Key = value`, the last being ElementDataFile ---------------------------------------------------


def _check_meta(path: Path) -> None:
    fields, start = _meta_fields(path)
    if fields.get("NDims") == "3":
        _check_spacing(path, _required_numbers(path, fields, "ElementSpacing", "ElementSize"))
    claims.check_meta(path, fields, start)


def _meta_fields(path: Path) -> tuple[dict[str, str], int]:
    """The header's fields and where it ends."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while "ElementDataFile" not in fields:
            if not (line := file.readline(_CHUNK).decode("utf-8", "surrogateescape")):
                raise InputError(f"{path} is not a MetaImage file, or it is damaged.")
            key, _, value = line.partition("=")
            _refuse_odd_key(path, key.encode("utf-8", "surrogateescape"))
            _add(path, fields, key.strip(), value.strip())
        return fields, file.tell()
