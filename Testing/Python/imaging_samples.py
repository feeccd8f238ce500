"""Grids and raw image files for the tests of imaging."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.imaging.geometry import Geometry

SIGNED_PERMUTATIONS = [
    np.eye(3)[:, list(order)] * signs
    for order in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    for signs in [(a, b, c) for a in (1, -1) for b in (1, -1) for c in (1, -1)]
]


@st.composite
def geometries(draw: st.DrawFn, longest: int = 6) -> Geometry:
    """Anisotropic, off-origin grids: permuted, mirrored, and mostly oblique (any angle, 45 degrees too)."""
    turn = draw(
        st.one_of(
            st.just((0.0, 0.0, 0.0)),
            st.tuples(*[st.sampled_from([0.0, 45.0, 90.0])] * 3),
            st.tuples(*[st.floats(-180, 180)] * 3),
        )
    )
    direction = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ draw(st.sampled_from(SIGNED_PERMUTATIONS))
    return Geometry(
        draw(st.tuples(*[st.integers(1, longest)] * 3)),
        draw(st.tuples(*[st.floats(0.2, 7)] * 3)),
        draw(st.tuples(*[st.floats(-500, 500)] * 3)),
        tuple(direction.ravel().tolist()),
    )


def oblique(size: tuple[int, int, int] = (7, 6, 5), spacing: tuple[float, float, float] = (0.8, 1.1, 2.5)) -> Geometry:
    """One fixed oblique, mirrored grid."""
    direction = Rotation.from_euler("xyz", (20, -15, 30), degrees=True).as_matrix() @ SIGNED_PERMUTATIONS[19]
    return Geometry(size, spacing, (10.25, -20.5, 33.125), tuple(direction.ravel().tolist()))


def counting_image(grid: Geometry, dtype: Any = np.int16) -> sitk.Image:
    """Every voxel has a value of its own."""
    return grid.image_of(np.arange(int(np.prod(grid.size)), dtype=dtype).reshape(grid.size[::-1]))


def one_line(kind: type[MedSeqFTError], what: Callable[[], object], *parts: str) -> str:
    """Call `what`, which must raise exactly `kind` with a message of one line that has all `parts`."""
    with pytest.raises(kind) as caught:
        what()
    message = str(caught.value)
    assert type(caught.value) is kind
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


def write_nifti(
    path: Path,
    array: NDArray[Any] | None = None,
    *,
    pixdim: tuple[float, ...] = (1.0, 1.0, 1.0),
    qform: int = 1,
    sform: NDArray[Any] | None = None,
    order: str = "<",
    version: int = 1,
    keep: int | None = None,
) -> Path:
    """Write a NIfTI file byte by byte; `array` is [..., z, y, x] float32; only the first `keep` bytes are written."""
    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(6, 5, 4) if array is None else array
    dim = [array.ndim, *array.shape[::-1], *[1] * (7 - array.ndim)]
    scale = [1.0, *pixdim, *[1.0] * (7 - len(pixdim))]
    rows = np.zeros((3, 4)) if sform is None else sform
    length, start = (348, 352) if version == 1 else (540, 544)
    head = bytearray(start)

    def put(offset: int, kind: str, *values: Any) -> None:
        struct.pack_into(order + kind, head, offset, *values)

    put(0, "i", length)
    if version == 1:
        put(40, "8h", *dim), put(70, "2h", 16, 32), put(76, "8f", *scale), put(108, "2f", start, 1)
        put(252, "2h", qform, int(sform is not None)), put(280, "12f", *rows.ravel())
        head[344:348] = b"n+1\0"
    else:
        put(12, "2h", 16, 32), put(16, "8q", *dim), put(104, "8d", *scale), put(168, "q", start), put(176, "d", 1)
        put(344, "2i", qform, int(sform is not None)), put(400, "12d", *rows.ravel())
        head[4:12] = b"n+2\0\r\n\032\n"
    data = bytes(head) + array.astype(order + "f4").tobytes()
    path.write_bytes((gzip.compress(data) if path.suffix == ".gz" else data)[:keep])
    return path


def write_nrrd(path: Path, geometry: str, *, sizes: str = "4 5 6", kinds: str = "", keep: int | None = None) -> Path:
    """Write a raw NRRD file of int16; `geometry` is lines of its header."""
    shape = [int(size) for size in sizes.split()]
    head = f"NRRD0004\ntype: short\ndimension: {len(shape)}\nsizes: {sizes}\nendian: little\nencoding: raw\n"
    head += "".join(line.strip() + "\n" for line in (geometry + "\n" + kinds).splitlines() if line.strip()) + "\n"
    path.write_bytes((head.encode() + np.arange(np.prod(shape), dtype="<i2").tobytes())[:keep])
    return path


def write_meta(path: Path, geometry: str, *, keep: int | None = None) -> Path:
    """Write a MetaImage file of 4x5x6 int16; `geometry` is lines of its header."""
    head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    head += geometry.strip() + "\nDimSize = 4 5 6\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path.write_bytes((head.encode() + np.arange(120, dtype="<i2").tobytes())[:keep])
    return path


# a scan in another file


def with_voxels(image: sitk.Image, voxels: NDArray[Any]) -> sitk.Image:
    """Other voxels on the same grid."""
    result = sitk.GetImageFromArray(voxels)
    result.CopyInformation(image)
    return result


def stored_otherwise(image: sitk.Image) -> sitk.Image:
    """Other order and direction of axes, the same place."""
    return sitk.PermuteAxes(sitk.DICOMOrient(image, "RSA"), [2, 0, 1])


def elsewhere(image: sitk.Image) -> sitk.Image:
    """The origin was lost."""
    moved = sitk.Image(image)
    moved.SetOrigin((0, 0, 0))
    return moved
