"""How much voxel data the header of an image file claims to hold, against what is there.

A few bytes of header may ask for terabytes. What cannot be true is refused here, before anybody reserves memory for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.names import inner_path

#: A packed file that unfolds beyond the first figure must not do so by more than the second: so a small file stays
#: small in memory. Empty label maps unfold a thousand times, but none of a usual size reaches the first figure.
_UNFOLDED = 768 << 20  # bytes
_TIMES = 500

_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(
        ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"), 4
    ),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), 8),
    **dict.fromkeys(("int64", "int64_t", "ulonglong", "unsigned long long", "unsigned long long int"), 8),
    **dict.fromkeys(("uint64", "uint64_t", "double"), 8),
}
_META_BYTES = {
    "CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 8, "ULONG": 8,
    "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8,
}  # fmt: skip


def refuse_unpacked(path: Path, claimed: int, present: int) -> None:
    """Raise InputError if fewer bytes are present than the voxels take."""
    if present < claimed:
        raise InputError(f"{path} is incomplete: {present} bytes of {claimed} of voxels; copy or export it again.")


def refuse_packed(path: Path, claimed: int, present: int) -> None:
    """Raise InputError if `present` compressed bytes would fill the memory with next to nothing."""
    if claimed > _UNFOLDED and claimed > _TIMES * present:
        raise InputError(
            f"{path} claims {claimed >> 20} MiB of voxels, packed into {present} bytes; if that is right, save it "
            "uncompressed, or a label map with 8 bits a voxel."
        )


def check_nrrd(path: Path, fields: Mapping[str, str], start: int) -> None:
    """Check the claim of a NRRD header whose fields are given by name, and which ends at byte `start`.

    Raises InputError.
    """
    sizes = _sizes(path, fields.get("sizes", ""))
    kind = fields.get("type", "").lower()
    if kind not in _NRRD_BYTES or fields.get("dimension") != str(len(sizes)):
        raise InputError(f"{path} has a damaged header: no usable type, dimension and sizes; export it again.")
    declared = fields.get("data file") or fields.get("datafile")
    present = path.stat().st_size - start if declared is None else _detached(path, declared)
    encoding = fields.get("encoding", "").lower()
    voxels, each = math.prod(sizes), _NRRD_BYTES[kind]
    if encoding == "raw":
        refuse_unpacked(path, voxels * each, present)
    elif encoding in ("gz", "gzip"):
        refuse_packed(path, voxels * each, present)
    elif encoding in ("hex", "txt", "text", "ascii"):
        refuse_unpacked(path, voxels, present)
        refuse_packed(path, voxels * each, present)
    else:
        raise InputError(f"{path} has the encoding {encoding!r}, which cannot be read; save it with gzip or raw.")


def check_meta(path: Path, fields: Mapping[str, str], start: int) -> None:
    """As `check_nrrd`, for MetaImage."""
    sizes = _sizes(path, fields.get("DimSize", ""))
    kind = fields.get("ElementType", "").removeprefix("MET_")
    if kind not in _META_BYTES or fields.get("NDims") != str(len(sizes)):
        raise InputError(f"{path} has a damaged header: no usable ElementType, NDims and DimSize; export it again.")
    channels = _sizes(path, fields.get("ElementNumberOfChannels", "1"))
    declared = fields["ElementDataFile"]
    present = path.stat().st_size - start if declared == "LOCAL" else _detached(path, declared)
    voxels, each = math.prod((*sizes, *channels)), _META_BYTES[kind]
    if fields.get("BinaryData", "").lower() != "true":
        refuse_unpacked(path, voxels, present)
        refuse_packed(path, voxels * each, present)
    elif fields.get("CompressedData", "").lower() == "true":
        refuse_unpacked(path, math.prod(_sizes(path, fields.get("CompressedDataSize", "1"))), present)
        refuse_packed(path, voxels * each, present)
    else:
        refuse_unpacked(path, voxels * each, present)


def _sizes(path: Path, text: str) -> list[int]:
    """Numbers above 0, of a size that can be."""
    if not re.fullmatch(r"[0-9]{1,10}( +[0-9]{1,10}){0,15}", text) or not all(map(int, text.split())):
        raise InputError(f"{path} has a damaged header: {text!r} is not the size of an image; export it again.")
    return [int(size) for size in text.split()]


def _detached(path: Path, declared: str) -> int:
    """Bytes in the file that holds the voxels. It must lie beside or below the header."""
    parts = inner_path(declared)
    if parts is None or "%" in declared or declared.split()[0] == "LIST":
        raise InputError(
            f"{path} keeps its voxels in {declared!r}; only one file in the folder of the header is read: "
            "save the image as one file."
        )
    file = path.parent.joinpath(*parts)
    if not file.is_file():
        raise InputError(f"{path} keeps its voxels in {declared!r}, which is missing.")
    return file.stat().st_size
